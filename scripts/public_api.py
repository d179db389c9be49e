# SPDX-License-Identifier: Apache-2.0
"""Reads the public headers: names, declarations and their comments. scripts/public-names and scripts/site use it.

A header is read as text, in the form that clang-format gives it; no compiler is needed. Public is what stands in
namespace kdlib outside `detail`, in a header that is no _inl file.
"""
import dataclasses
import pathlib
import re

TOKEN = re.compile(
    r'R"(?P<raw>[^()\\\s]{0,16})\(.*?\)(?P=raw)"|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Za-z_])\'(?:\\.|[^\'\\\n])+\''
    r"|//[^\n]*|/\*.*?\*/|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*|[A-Za-z_]\w*|[0-9][\w.']*|\n|[ \t]+|::|->|.",
    re.S | re.M)
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
SCOPES = re.compile(r"\b(struct|class|union|enum)\b")
MEMBERS_WITHOUT_COMMENT = {  # their meaning is that of every type that has them
    "visit_fields", "describe", "begin", "end", "size", "data", "empty", "operator", "text",
}


@dataclasses.dataclass
class Declaration:
    kind: str  # type, enum, function, constructor, value, alias, concept, macro
    name: str  # without namespace; members carry their type's name in front: Trainer::run
    header: str  # kdlib/train/trainer.hpp
    line: int
    text: str  # without the body of a function; types with their public members
    comment: str  # without slashes; empty where nothing is said
    inherited: bool = False  # the comment is that of the declaration before, in the same block of lines
    members: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Token:
    text: str
    line: int
    column: int

    @property
    def comment(self):
        return self.text.startswith(("//", "/*"))

    @property
    def blank(self):
        return self.text.isspace()


def tokens_of(text):
    line, start = 1, 0
    for found in TOKEN.finditer(text):
        word = found.group(0)
        yield Token(word, line, found.start() - start)
        count = word.count("\n")
        if count:
            line, start = line + count, found.start() + word.rindex("\n") + 1


def words(comment):
    """The text of comment lines; a line that is indented more than the others keeps its place."""
    lines = [re.sub(r"^//[/!]?<? ?", "", line.strip()) for line in comment]
    return "\n".join(lines).strip("\n")


class Reader:
    def __init__(self, path, header):
        self.header = header
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"\bKDLIB_NAMESPACE_BEGIN\b", "namespace kdlib {", text)
        text = re.sub(r"\bKDLIB_NAMESPACE_END\b", "}", text)
        self.tokens = list(tokens_of(text))
        self.at = 0
        self.found = []
        self.macros, self.of_macros = [], []
        self.dropped = set(re.findall(r"^#undef (KDLIB_\w+)", text, re.M))

    def read(self):
        self.scope(None, False, "")
        return self.found + [m for m in self.macros if m.name not in self.dropped]

    def scope(self, owner, public, default):
        """Declarations up to the closing brace. owner: the type whose members they are; None: a namespace."""
        access, comment, block, last_line = default, [], "", 0
        out = owner.members if owner else self.found
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.text == "}":
                self.at += 1
                return
            if token.text == "\n":
                self.at += 1
                if self.at < len(self.tokens) and re.fullmatch(r"\n", self.tokens[self.at].text):
                    comment, block = [], ""
                continue
            if token.blank or token.text == ";":
                self.at += 1
            elif token.comment:
                comment.append(token.text)
                self.at += 1
            elif token.text.lstrip().startswith("#"):
                self.macro(token, comment)
                self.at += 1
            elif token.text in {"public", "private", "protected"} and self.after(self.at + 1) == ":":
                access, comment, block = token.text, [], ""
                self.at += 1
                while self.tokens[self.at].text != ":":
                    self.at += 1
                self.at += 1
            elif token.text in {"namespace", "inline"} and self.namespace():
                comment, block = [], ""
            else:
                d = self.declaration(words(comment), owner)
                comment = []
                visible = d is not None and (public if owner is None else access == "public")
                if visible:
                    if not d.comment and block:
                        d.comment, d.inherited = block, True
                    elif d.comment:
                        block = d.comment
                    out.append(d)

    def after(self, at):
        while self.tokens[at].blank or self.tokens[at].comment:
            at += 1
        return self.tokens[at].text

    def namespace(self):
        head, at = [], self.at
        while self.tokens[at].text not in "{;=(":
            head.append(self.tokens[at].text)
            at += 1
        name = re.fullmatch(r"(?:inline\s+)?namespace\s*([\w:]*)\s*", "".join(head))
        if not name or self.tokens[at].text != "{":
            return False
        self.at = at + 1
        inside = Reader.__new__(Reader)
        inside.__dict__ = dict(self.__dict__, found=[])
        inside.scope(None, name.group(1) == "kdlib", "")
        self.at = inside.at
        self.found += inside.found
        return True

    def macro(self, token, comment):
        """Macros take the comment above them or above the condition that they stand in."""
        found = re.match(r"\s*#\s*define\s+(KDLIB_\w+)(\([^)]*\))?", token.text)
        self.of_macros = comment[:] or self.of_macros
        known = [m.name for m in self.macros]
        if found and not found.group(1).endswith(("_HPP", "_H", "_CUH")) and found.group(1) not in known:
            self.macros.append(Declaration("macro", found.group(1), self.header, token.line,
                                           found.group(1) + (found.group(2) or ""), words(self.of_macros)))

    def skip_braces(self):
        """From an opening brace to the one that closes it."""
        depth = 0
        while self.at < len(self.tokens):
            text = self.tokens[self.at].text
            self.at += 1
            depth += (text in OPEN) - (text in CLOSE)
            if depth == 0:
                return

    def declaration(self, comment, owner):
        first, line = self.at, self.tokens[self.at].line
        head, depth, members = [], 0, None
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            text = token.text
            if text == "}" and depth == 0:
                break  # a fragment
            if text == "{" and depth == 0:
                plain = "".join(t.text for t in head if not t.comment)
                opened = without_template(plain)
                if SCOPES.match(re.sub(r"^(?:typedef|friend)\s+", "", opened)) and "(" not in opened:
                    members = self.type_body(plain, opened, comment, line, owner)
                    head.append(Token(" {…}", token.line, 0))
                    continue
                part = re.search(r"\brequires\s*(?:\([^{}]*\))?\s*$", plain)
                body = self.at
                self.skip_braces()
                follows = self.after(self.at) if self.at < len(self.tokens) else ";"
                if part or "concept " in plain or follows in {";", ",", "{", "&", "|"} or follows == ")":
                    head += self.tokens[body:self.at]
                    continue
                break
            depth += (text in OPEN) - (text in CLOSE)
            self.at += 1
            if text == ";" and depth == 0:
                break
            head.append(token)
        if self.at == first:
            self.at += 1
            return None
        return self.finished(head, comment + self.trailing(head, comment), line, owner, members)

    def type_body(self, plain, opened, comment, line, owner):
        self.at += 1
        if opened.startswith("enum"):
            begin, depth = self.at, 1
            while depth:
                text = self.tokens[self.at].text
                depth += (text == "{") - (text == "}")
                self.at += 1
            return [t for t in self.tokens[begin:self.at - 1]]
        name = type_name(opened)
        inner = Declaration("type", (owner.name + "::" if owner else "") + name, self.header, line, "", comment)
        self.scope(inner, True, "private" if opened.startswith("class") else "public")
        return inner.members

    def trailing(self, head, comment):
        """The comment behind a declaration, on its line or the lines below in the same column; and those inside it."""
        said = [t.text for t in head if t.comment]
        at, column = self.at, None
        while at < len(self.tokens) and self.tokens[at].text.strip(" \t") == "":
            at += 1
        while at < len(self.tokens) and self.tokens[at].comment:
            token = self.tokens[at]
            if column is not None and token.column != column:
                break
            if column is None and token.column < 4:
                break
            column = token.column
            said.append(token.text)
            self.at = at + 1
            at += 1
            lines = 0
            while at < len(self.tokens) and self.tokens[at].blank:
                lines += self.tokens[at].text.count("\n")
                at += 1
            if lines != 1:
                break
        text = words(said)
        return ("\n" if comment and text else "") + text

    def finished(self, head, comment, line, owner, members):
        text = re.sub(r"[ \t]*\n\s*", " ", "".join(t.text for t in head if not t.comment)).strip()
        text = re.sub(r"\s{2,}", " ", text)
        kind, names = classify(text, owner.name.split("::")[-1] if owner else "")
        if not names:
            return None
        prefix = owner.name + "::" if owner else ""
        text = text.replace(" {…}", "")
        d = Declaration(kind, prefix + names[0], self.header, line, text, comment)
        d.names = [prefix + n for n in names]
        if kind == "enum":
            d.members = enumerators(members or [], d, self.header)
        elif members is not None:
            d.members = members
        return d


def without_template(text):
    """The declaration behind `template <...>`, requires clauses and attributes."""
    text = text.strip()
    while text.startswith("template"):
        at, depth = text.find("<"), 0
        for i in range(at, len(text)):
            depth += (text[i] == "<") - (text[i] == ">" and text[i - 1] != "-")
            if depth == 0:
                break
        text = text[i + 1:].strip()
    text = re.sub(r"^\[\[.*?\]\]\s*", "", text)
    if text.startswith("requires"):
        rest = text[len("requires"):].strip()
        while rest.startswith("requires"):
            rest = rest[len("requires"):].strip()
        while True:
            rest = balanced_rest(rest)
            joined = re.match(r"\s*(?:&&|\|\|)\s*", rest)
            if not joined:
                break
            rest = rest[joined.end():]
        text = rest.strip()
    return text


def balanced_rest(text):
    """Behind one operand of a requires clause: a parenthesis with a body, or a concept with arguments."""
    operand = re.match(r"[!\w:]*\s*(?=[(<{])", text) or re.match(r"[!\w:]+", text)
    at = operand.end() if operand else 0
    while at < len(text) and text[at] in "(<{":
        opened, depth = text[at], 0
        closed = {"(": ")", "<": ">", "{": "}"}[opened]
        while at < len(text):
            depth += (text[at] == opened) - (text[at] == closed)
            at += 1
            if depth == 0:
                break
        at += len(text[at:]) - len(text[at:].lstrip())
    return text[at:]


def type_name(opened):
    found = re.match(r"(?:struct|class|union|enum(?:\s+class)?)\s+(?:alignas\([^)]*\)\s*|KDLIB_\w+\s+)*"
                     r"([\w:]+(?:<.*>)?)", opened)
    return found.group(1) if found else ""


def blank_brackets(text):
    """The text with what stands in brackets of any kind replaced, so that names at the top level can be found."""
    out, depth, angle = [], 0, 0
    for i, c in enumerate(text):
        if c in ")]}":
            depth -= 1
        if depth == 0 and c == ">" and angle and text[i - 1] != "-":
            angle -= 1
        out.append(c if depth == 0 and angle == 0 else "~")
        if depth == 0 and c == "<" and re.search(r"[\w]\s*$", text[:i]) and "operator" not in text[max(0, i - 9):i]:
            angle += 1
        if c in "([{":
            depth += 1
    return "".join(out)


def classify(text, owner):
    """The kind and the names of one declaration; no names: nothing that is listed."""
    body = without_template(text)
    if re.match(r"(?:static_assert|friend|extern\s+template|using\s+namespace|KDLIB_\w+\s*\()", body):
        return "", []
    if text.startswith("template") and re.match(r"(?:class|struct)\s+\S+<", body) and "template <>" in text[:12]:
        return "", []  # a specialisation
    if re.match(r"template\b", text) is None and re.match(r"template\s+(?:class|struct)", text):
        return "", []
    alias = re.match(r"using\s+(\w+)\s*=", body)
    if alias:
        return "alias", [alias.group(1)]
    if body.startswith(("using ", "typedef ")):
        return "", []
    concept = re.match(r"concept\s+(\w+)", body)
    if concept:
        return "concept", [concept.group(1)]
    scope = SCOPES.match(body)
    if scope and "(" not in body.split("{")[0].split(":")[0]:
        name = type_name(body)
        if body.endswith("{…}") or "{…}" in body:
            if "<" in name:
                return "", []
            return ("enum" if scope.group(1) == "enum" else "type"), [name] if name else []
        return "", []  # a declaration in advance
    plain = blank_brackets(body)
    function = re.search(r"(operator\s*(?:\(\)|[^\s\w(]+|\w+)|~?\w+)\s*\(", plain)
    assigned = re.search(r"(?<![=!<>])=(?!=)", plain)
    if function and not (assigned and assigned.start() < function.start() and "operator" not in function.group(1)):
        if re.search(r"\)\s*(?:noexcept\s*)?->", plain) and re.match(r"(?:explicit\s+)?[A-Z]\w*\s*\(", plain):
            return "", []  # a deduction guide
        if plain[:function.start()].rstrip().endswith("::"):
            return "", []  # the body of a member
        name = re.sub(r"\s", "", function.group(1))
        if name.startswith("~") or re.search(r"=\s*(?:delete|default)", plain):
            return "", []
        return ("constructor" if name == owner else "function"), [name]
    names = []
    for part in plain.split(","):
        found = re.search(r"([A-Za-z_]\w*)\s*(?:\[~*\]\s*)*(?:=[^=].*|\{.*|:\s*\d+.*)?$", part.strip().rstrip("{}"))
        if found:
            names.append(found.group(1))
    return "value", names


def enumerators(tokens, owner, header):
    """One declaration an enumerator, with the comment above it, on its line, or below in the same column."""
    rows, before, current, column = [], [], None, 0
    fresh_line = True
    for token in tokens:
        if token.text == "\n":
            fresh_line = True
        elif token.comment:
            if current and (not fresh_line or token.column == column):
                current.comment += ("\n" if current.comment else "") + words([token.text])
                column = token.column
            else:
                before.append(token.text)
            fresh_line = False
        elif re.match(r"[A-Za-z_]\w*$", token.text) and (not rows or comma):
            current = Declaration("value", f"{owner.name}::{token.text}", header, token.line, token.text, words(before))
            rows.append(current)
            before, comma, fresh_line = [], False, False
        elif token.text == ",":
            comma = True
        elif not token.blank:
            fresh_line = False
        if not rows:
            comma = True
    return rows


def headers(root):
    folder = pathlib.Path(root, "include/kdlib")
    for path in sorted(folder.rglob("*.hpp")):
        if not path.stem.endswith("_inl"):
            yield path, path.relative_to(folder.parent).as_posix()


def introduction(path):
    """The comment that opens a header."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    said = []
    for line in lines:
        if not line.startswith("//"):
            break
        said.append(line)
    return words(said)


def declarations(root):
    for path, header in headers(root):
        yield from Reader(path, header).read()


def undocumented(declaration):
    """Names of a declaration and of its members that no comment explains."""
    if not declaration.comment:
        yield declaration.name, declaration.line
    said = declaration.comment
    fields = {}
    for member in declaration.members:
        name = member.name.split("::")[-1]
        base = re.match(r"operator|\w+", name).group(0)
        if member.kind == "constructor" or member.comment or base in MEMBERS_WITHOUT_COMMENT:
            pass
        elif re.search(rf"\b{re.escape(name)}\b", said):
            pass
        elif declaration.kind != "enum" and member.kind == "function" and fields.get(name):
            pass
        else:
            yield member.name, member.line
        fields[name] = True
        if member.members and member.kind in {"type", "enum"} and member.comment:
            yield from undocumented(member)
