#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/reference/text/jinja.jsonl: small templates of our own and what Jinja2 makes of them, set up as transformers does.

    pip install "jinja2==3.1.6"
    python3 scripts/make_jinja_reference.py

A line: {"template", "variables", "text"} or {"template", "variables", "error": "raised"|"undefined"|"other", "words"}.
"""
import datetime
import json
import pathlib
import re

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/reference/text/jinja.jsonl"
NOW = datetime.datetime(2026, 1, 5, 15, 4, 9)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


ENV = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
ENV.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
ENV.globals.update(raise_exception=raise_exception, strftime_now=NOW.strftime)

DATA = {"n": 3, "f": 2.5, "t": True, "none": None, "s": "it's \"so\"", "u": "Straße ΑΣ ǆ é漢😀", "xs": [3, 1, 2, "a", None], "big": 9007199254740993,
        "d": {"b": 1, "A": [1, 2.0, None, "it's"], "items": 5, "é": {}}, "lines": "one\n\n  two\r\nthree\n", "blank": " \t\u00a0\u2003x\u3000\n ",
        "people": [{"name": "Eve", "age": 3, "at": {"city": "Köln"}}, {"name": "adam", "age": 1, "at": {"city": "Oslo"}}, {"name": "Bob", "age": 2}],
        "odd": "a\u00adb\u200bc\ufeff\x00\x1f\x7f\\'", "html": "<a href='x'>&</a>", "empty": "", "zero": 0, "nothing": [], "tiny": 1e-07, "huge": 1e16, "neg": -0.0}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2|7 // 2|-7 // 2|7 % -3|-7 % 3|2 ** 10|7.5 // 2|-7.5 % 2|1 / 2|1e3|1_000|.5 is defined
1 + 1.0|true + 1|'a' + 'b'|'a' * 3|[1] * 2|3 * 'ab'|'x' * -1|[1] + [2, 3]|(1, 2) + (3,)|'a' + 1|1 + none|nope + 1|'x' ~ 1 + 2|none ~ 'x' ~ 1.0 ~ true ~ nope
1 < 2 <= 2 != 3|1 == 1.0 == true|'a' < 'b'|[1, 2] < [1, 3]|'a' < 1|none < 1|1 is true|true is true|nope == nope2|none == nope
'a' in 'abc'|1 in [1, 2]|'b' in d|'x' not in 'abc'|1 in 'abc'|'x' in none|'x' in nope|none in xs
not 1 or 2 and 3|0 or '' or 'x'|1 and 'y'|not not []|1 if t else 2|(1 if false) is defined|'a' if n > 5 else 'b' if n > 2 else 'c'
d.b|d['b']|d['items']|d.items is defined|d.items is mapping|d.nope|d.nope.x|d['A'][-1]|d.A[1]|xs[10]|xs[-1]|s.x|s[0]|u[-1]|u[5]|none.x|none['x']|n.x|xs.0
xs[1:]|xs[:-1]|xs[::-1]|xs[1:4:2]|xs[10:]|xs[-2:]|u[2:8]|u[::-1]|u[:100]|(1, 2, 3)[1:]|xs[::0]|n[1:]|nope[1:]|xs[-100:2]|xs[4:0:-2]
d|xs|(1,)|()|[]|{}|s|[s]|[u]|[odd]|[html]|{1: 'a', none: 2, true: 3}|[1.0, 1e-07, 1e16, -0.0, 0.1, 123456789012.25]|tiny|huge|neg|big|[big]|none|t|nope|[nope]
d | tojson|xs | tojson(indent=2)|d | tojson(indent=4)|{} | tojson(indent=2)|[[]] | tojson(indent=1)|u | tojson(ensure_ascii=true)|odd | tojson|odd | tojson(ensure_ascii=true)|html | tojson|{1: 2, none: 3, true: 4, 1.5: 5} | tojson
d | tojson(separators=(',', ':'))|d | tojson(sort_keys=true)|nope | tojson|[nope] | tojson|xs | tojson(indent='--')|neg | tojson|tiny | tojson|s | safe | tojson
xs | length|u | length|d | count|nope | length|none | length|n | length|xs | first|xs | last|nothing | first|u | last|d | first|'' | last|xs | map('string') | first
blank | trim|blank.strip()|'xxaxx' | trim('x')|'xyayx'.strip('yx')|'xxa'.lstrip('x')|'axx'.rstrip('x')|none | trim|n | trim|'\x1c\x85a\u200b' | trim | length
s | upper|u | upper|u | lower|u | title|u.title()|"it's a dog-day (x)" | title|"it's a dog-day (x)".title()|'hELLO wORLD' | capitalize|'ß' | upper|'İ' | lower | length|'ΣΑΣ' | lower|'ﬁx' | upper
'a,b,,c'.split(',')|' a  b '.split()|'a b c'.split(' ', 1)|'a b c'.rsplit(' ', 1)|' a b  c '.split(none, 1)|'abc'.split('')|'a\nb\r\nc'.splitlines()|''.split(',')|''.split()|'a b c'.rsplit()|'abcabc'.rsplit('b', 1)
'abc'.replace('b', 'x')|'aaa'.replace('a', 'b', 2)|'abc' | replace('', '-')|12321 | replace(2, 'x')|'abc'.replace('', '-', 2)|'abc'.startswith('ab')|'abc'.endswith(('x', 'c'))|'abc'.find('c')|'é漢'.find('漢')|'abc'.index('z')|'banana'.count('an')
'x'.join(['a', 'b'])|'x'.join([1])|'Ab1'.isalnum()|'12'.isdigit()|''.isdigit()|'AB'.isupper()|'a b'.islower()|' \n'.isspace()|'prefix-x'.removeprefix('prefix-')|'x.md'.removesuffix('.md')
xs | join(', ')|[1, 2] | join|people | join(', ', attribute='name')|nope | join('x')|none | join('x')|d | join('-')|u | join('.')
d | items | list|d.items() | list|d.keys() | list|d.values() | list|d.get('b')|d.get('x')|d.get('x', 7)|d | dictsort|d | dictsort(by='value')|{'b': 2, 'a': 3} | dictsort(false, 'value', true)|none | items | list
people | map(attribute='name') | list|people | map(attribute='at.city') | list|people | map(attribute='at.city', default='?') | list|people | map('length') | list|xs | map('string') | list|['a'] | map('upper') | list|people | map(attribute='nope') | list
people | selectattr('age', 'gt', 1) | map(attribute='name') | list|people | selectattr('at') | list | length|people | rejectattr('at', 'defined') | list|xs | select('string') | list|xs | reject('none') | list|[1, 2, 3] | select('odd') | list|[0, 1] | select | list|people | selectattr('name', 'equalto', 'Bob') | list
people | sort(attribute='age') | map(attribute='name') | list|people | sort(attribute='name', reverse=true) | map(attribute='name') | list|['b', 'A', 'c'] | sort|['b', 'A'] | sort(case_sensitive=true)|xs | sort|[3, 1] | sort(reverse=true)|['a', 'A', 'b'] | unique | list|[3, 1, 2] | max|['b', 'A'] | min|[] | max|[1, 2.5] | sum|people | sum(attribute='age')|[1, 2] | reverse | list|'abc' | reverse
(people | selectattr('age') | list) and 1|(nothing | select) and 1|(xs | map('string')) is iterable|(xs | map('string')) is sequence|(xs | map('string')) | length|(xs | map('string'))[0]
nope | default('d')|none | default('d')|'' | default('d')|'' | default('d', true)|nope | default|0 | d(5, boolean=true)|nope.x | default('d')
'42' | int|'42.7' | int|'x' | int|'x' | int(7)|'ff' | int(0, 16)|3.9 | int|-3.9 | int|none | int|' 5 ' | int|nope | int|'1.5' | float|'x' | float|2 | float|t | int|-3 | abs|-2.5 | abs
2.5 | round|3.5 | round|2.675 | round(2)|42.55 | round(1, 'floor')|42.51 | round(0, 'ceil')|42 | round|1234 | round(-2)
lines | indent|lines | indent(2, true)|lines | indent(2, blank=true)|'a\nb' | indent('> ')|'' | indent|'a' | indent(width=3, first=true)
'%s and %d' | format('a', 3)|'%05.1f|%-5s|%5s' | format(2.25, 'a', 'b')|'%(x)s' | format(x=1)|'%s' % 'a'|'%s-%s' % ('a', none)|'100%%' | format|'%r' | format('a')|'%d' | format('a')|'%s' | format|'%x' % 255|'%+d' % 5|'%s' | format(1, 2)
html | escape|html | e | e|html | safe|('<' | safe) + '>'|'<' + ('>' | safe)|('<' | safe) ~ '>'|('a&b' | safe).split('&')|('<b>' | safe) | upper|[('x' | safe)]|('<%s>' | safe) % '&'
1 is number|'1' is number|t is boolean|n is integer|f is float|t is integer|t is number|d is mapping|xs is mapping|'s' is iterable|none is iterable|n is iterable|d is sequence|'s' is sequence|nope is iterable|nope is sequence|none is none|nope is none|nope is undefined|none is defined|1 is odd|2 is even|6 is divisibleby 3|6 is divisibleby(4)|'A' is upper|'a' is lower|1 is eq 1|1 is ne 1|2 is gt 1|2 is lessthan 3|2 is in [1, 2]|none is sameas none|1 is sameas true|range is callable|n is callable|n is not odd|1 is true or 2|false is false|[] is false
range(3) | list|range(1, 7, 2) | list|range(3, 0, -1) | list|range(0) | list|dict(a=1, b=2)|dict(d, z=3)|dict([('a', 1)])|range(1, 2, 0)
'a' 'b' "c"|'\x41\u00e9\U0001F600\101\q\'\\'|"tab\there"|'a\
b'|'line
two'
d.update({'x': 1})|xs.append(1)|xs.pop()|d.update is defined|d.pop|s.nope()|nope()|none()|n()|s()|xs | nofilter|1 is notest|d.b.c.d|upper('a')
strftime_now('%Y-%m-%d %H:%M:%S %B %b %A %a %j %I %p %y %e %%')|strftime_now('plain')|raise_exception('Only ' ~ n ~ ' turns!')|raise_exception('') is defined
-n|+n|-n ** 2|- -n|-f|-s|n | string|xs | string|'a' | attr('x') is defined|d | attr('b') is defined|(n, 2)|(n)|{'a': n}.a|[n][0]|(1, 2) == (1, 2)|[1] == (1,)|{'a': 1} == {'a': 1.0}
xs.index('a')|xs.index('zz')|xs.count(1)|(1, 1).count(1)|d.copy()|'a' is in 'abc'|xs | list is sequence|people[0].at['city'][1:3]|people[-1].at is defined|people[5].name
"""

TEMPLATES = [
    "a\n{% if true %}\n  b\n{% endif %}\nc\n", "a  {%- if true -%}  b  {%- endif -%}  c", "  {% if true %}x{% endif %}  \n  y", "a\n\n", "a\r\nb\rc\r\n",
    "{{ 1 }}\n{{ 2 }}\n", "  {{- 1 }}  \n", "{# c #}\nx {# d #} y\n  {# e -#}  z", "{% if t %}  {% endif %}|", "  {%+ if true %}a{% endif %}", "x {% if true +%}\ny{% endif %}",
    "{% raw %}{{ a }}{% b %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  y", "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ x }};{% endfor %}",
    "{% for x in xs %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for x in xs if x is number %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}", "{% for x in nothing %}x{% else %}none{% endfor %}", "{% for x in nope %}x{% else %}none{% endfor %}",
    "{% for x in none %}{% endfor %}", "{% for x in n %}{% endfor %}", "{% for k in d %}{{ k }},{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}", "{% for a, b in ['xy'] %}{{ b }}{{ a }}{% endfor %}", "{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.depth }}{{ loop.index }}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 10 %}{{ x }};{% endfor %}{{ x }}", "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% for x in [1] %}{% endfor %}{{ x is defined }}", "{% set x = 5 %}{% for x in [1, 2] %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(a=1) %}{% for i in [1, 2, 3] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b is defined }}{% set ns.b = 'x' %}{{ ns.b }}", "{% set n.a = 1 %}", "{% set ns = namespace({'a': 1}) %}{{ ns['a'] }}{{ ns.c }}",
    "{% set a, b = 1, 2 %}{{ b }}{{ a }}", "{% set a, b = [1] %}", "{% set t %}\n {{ n }} x\n{% endset %}[{{ t }}]", "{% set t | trim | upper %} {{ s }} {% endset %}[{{ t }}]", "{% set x = 1, 2 %}{{ x }}", "{% set x = %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=3) }}|{{ m(b=5, a='x') }}|{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ caller() }}{{ a }}{% endmacro %}{% call m(1) %}in {{ n }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 'b') }}{% endmacro %}{% call(x, y) m() %}{{ x }}{{ y }}{% endcall %}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m() %}{{ i is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}", "{% macro m() %}{% set x = 3 %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{{ x }}",
    "{% for i in [1, 2] %}{% macro m() %}<{{ i }}>{% endmacro %}{{ m() }}{% endfor %}", "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% for i in [1, 2] %}{% macro w() %}{{ caller() }}{% endmacro %}{% call w() %}{{ i }}{% endcall %}{% endfor %}",
    "{{ undefined_macro() }}", "{% macro m(a, b) %}{{ b is defined }}{% endmacro %}{{ m(1) }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[7]) }}{{ m(**{'x': 8}) }}", "{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}]{{ m() is string }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter trim | replace('a', 'b') %} a {% endfilter %}", "{% if n == 1 %}a{% elif n == 3 %}b{% else %}c{% endif %}", "{% if nope %}a{% elif none %}b{% endif %}c", "{% generation %}g{{ n }}{% endgeneration %}!",
    "{% for x in xs %}{% if loop.first %}[{% endif %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}]", "{% if x is defined and x %}a{% else %}b{% endif %}", "{{ raise_exception('no') }}", "{% if false %}{{ 'x' | nofilter }}{% endif %}ok", "{% if false %}{{ 1 is notest }}{% endif %}ok",
    "{{ people | map(attribute='name') | join(', ') }}", "{% set g = people | map(attribute='name') %}{{ g | list }}{{ g | list }}", "{% for p in people | sort(attribute='age') %}{{ p.name }}{% endfor %}", "{{ (people | first).name }}{{ people[1]['name'] }}",
    "{{ {'a': 1}.items() | list }}{{ {}.items() is iterable }}", "{{ n }} {{- n }} {{ n -}} {{ n }}", "{%- for x in [1,2] -%}\n {{ x }}\n{%- endfor -%}\n!", "{{ '{{' }}{{ '}}' }}{{ {'a': {'b': 1}} }}",
    "{", "}}", "{ {", "{{", "{% if %}", "{% if true %}", "{% endif %}", "{% for %}", "{{ 1 + }}", "{{ (1 }}", "{{ 'a }}", "{# a", "{% raw %}", "{% nosuch %}", "{{ a b }}", "{% break %}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ 1 | }}", "{{ [1, 2 }}", "{{ x. }}", "{% set true = 1 %}",
    "{{ [[1, [2, {'a': (3,)}]]] }}", "{% set x = [] %}{% for i in range(3) %}{% set x = x + [i] %}{% endfor %}{{ x }}", "{{ s[1:3] ~ s[-3:] }}{{ 'abc'[5] is defined }}", "{{ lines.split('\n') | map('trim') | select | join('|') }}", "{{ 3.0 }} {{ 3 / 1 }} {{ 1e5 }} {{ 10 ** 2 }} {{ 2 ** -1 }} {{ 7 // 2.0 }}",
]


def made(source):
    line = {"template": source}
    try:
        line["text"] = ENV.from_string(source).render(**DATA)
    except jinja2.exceptions.UndefinedError as e:
        line.update(error="undefined", words=str(e))
    except jinja2.exceptions.TemplateError as e:
        line.update(error="raised" if type(e) is jinja2.exceptions.TemplateError else "other", words=str(e))
    except Exception as e:
        line.update(error="other", words=f"{type(e).__name__}: {e}")
    return line


def table():
    """Cells are separated by a bar without blanks around it; filters have blanks."""
    text = EXPRESSIONS.strip("\n").replace("\\\nb'", "\\\x00b'").replace("'line\ntwo'", "'line\x00two'")
    for row in text.split("\n"):
        for cell in re.split(r"(?<! )\|(?! )", row):
            yield cell.replace("\x00", "\n")


def main():
    lines = [made("{{ " + e + " }}") for e in table()] + [made(t) for t in TEMPLATES]
    with OUT.open("w", encoding="utf-8") as f:
        f.write(json.dumps({"variables": DATA}) + "\n")
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=True) + "\n")
    kinds = {}
    for line in lines:
        kinds[line.get("error", "text")] = kinds.get(line.get("error", "text"), 0) + 1
    print(len(lines), kinds)


main()
