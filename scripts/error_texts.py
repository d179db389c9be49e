# SPDX-License-Identifier: Apache-2.0
"""Collects the texts of all errors from the sources, for the page of errors of the site (scripts/site).

A text is what stands in require<E>(condition, parts...), fail<E>(parts...), throw E(parts...), Json::refuse(text) and
static_assert(condition, text). What is known only at run time becomes the expression in angle quotes.
"""
import ast
import dataclasses
import pathlib
import re

import public_api

CALL = re.compile(r"(require|fail|throw|refuse|static_assert)$")
ERROR = re.compile(r"(?:kd::|kdlib::|detail::)*(\w*Error|HelpRequested)$")


@dataclasses.dataclass(frozen=True)
class ErrorText:
    kind: str  # FormatError, ..., compile error
    text: str
    operation: str  # what stands in the brackets in front; empty where there are none
    path: str
    line: int


def call_arguments(tokens, at):
    """The arguments of a call whose opening parenthesis is tokens[at], each a list of tokens; and the place behind."""
    depth, angle, out = 0, 0, [[]]
    while at < len(tokens):
        text = tokens[at].text
        if text in "([{" and len(text) == 1:
            depth += 1
            if depth > 1:
                out[-1].append(tokens[at])
        elif text in ")]}" and len(text) == 1:
            depth -= 1
            if depth == 0:
                return out, at + 1
            out[-1].append(tokens[at])
        elif text == "," and depth == 1:
            out.append([])
        elif not tokens[at].comment:
            out[-1].append(tokens[at])
        at += 1
    return out, at


def literal(text):
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text[1:-1]


def rendered(argument):
    """One part of a message: literals as they are, other expressions in angle quotes."""
    words = [t for t in argument if not t.blank]
    if not words:
        return ""
    if all(t.text.startswith('"') for t in words):
        return "".join(literal(t.text) for t in words)
    if len(words) == 1 and words[0].text.startswith("'"):
        return literal(words[0].text)
    names = [t.text for t in words]
    if names[:2] == ["concat", "("] or names[:4] == ["kd", "::", "concat", "("]:
        inner, _ = call_arguments(words, names.index("("))
        return "".join(rendered(part) for part in inner)
    parts, current, depth = [], [], 0
    for token in words:  # text + name + "more"
        depth += (token.text in public_api.OPEN) - (token.text in public_api.CLOSE)
        if token.text == "+" and depth == 0:
            parts.append(current)
            current = []
        else:
            current.append(token)
    parts.append(current)
    if len(parts) > 1 and any(p and p[0].text.startswith('"') for p in parts):
        return "".join(rendered(p) for p in parts)
    expression = "".join(t.text if t.text != "?" and t.text != ":" else f" {t.text} " for t in words)
    expression = re.sub(r"static_cast<[^<>]*>\((.*)\)$", r"\1", expression)
    expression = re.sub(r"^(?:std::)?(?:to_string|string|string_view)\((.*)\)$", r"\1", expression)
    return f"‹{expression}›"


def error_type(tokens, at):
    """The type in `<...>` behind require or fail, and the place of the parenthesis."""
    name, depth = "", 0
    while at < len(tokens) and tokens[at].text != "(":
        if not tokens[at].blank:
            name += tokens[at].text
        at += 1
        if len(name) > 80:
            return "", at
    found = ERROR.search(name.strip("<>"))
    return (found.group(1) if found else ("Error" if name in {"", "<>"} else "")), at


def texts_of(path, name):
    tokens = [t for t in public_api.tokens_of(path.read_text(encoding="utf-8"))]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if not CALL.match(token.text):
            continue
        before = next((t.text for t in reversed(tokens[max(0, at - 4):at - 1]) if not t.blank), "")
        if token.text == "throw":
            kind, opened = error_type(tokens, at)
            if not kind or kind == "HelpRequested":
                continue
        elif token.text in {"refuse", "static_assert"}:
            if token.text == "refuse" and before not in {".", "->"}:
                continue
            kind, opened = ("FormatError" if token.text == "refuse" else "compile error"), at
        else:
            kind, opened = error_type(tokens, at)
        if not kind or opened >= len(tokens) or tokens[opened].text != "(":
            continue
        arguments, _ = call_arguments(tokens, opened)
        if token.text in {"require", "static_assert"}:
            arguments = arguments[1:]
        text = "".join(rendered(a) for a in arguments)
        text = re.sub(r"\s+", " ", text).strip()
        if token.text == "refuse":
            text = "[json] ‹file: key› " + text
        if len(re.sub(r"‹[^›]*›|\W", "", text)) < 4:
            continue  # a text that is put together elsewhere
        operation = re.match(r"\[([^\]‹]+)\]", text)
        yield ErrorText(kind, text, operation.group(1) if operation else "", name, token.line)


def all_texts(root):
    found = []
    for folder in ("include/kdlib", "src", "examples"):
        for path in sorted(pathlib.Path(root, folder).rglob("*")):
            if path.suffix in {".hpp", ".cpp", ".cu", ".cuh"}:
                found += texts_of(path, path.relative_to(root).as_posix())
    return found
