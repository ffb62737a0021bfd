"""The text of a mail without what was said before: quoted text and signatures cut, Chinese and English."""

from __future__ import annotations

import re

from bs4 import BeautifulSoup
from mailparser_reply import EmailReplyParser

ENDING = 1_500
"""Characters at the end of a text in which the library looks for a signature: its patterns take long on long texts."""

_BLOCKS = ("p", "div", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "section", "hr")
_QUOTES = "blockquote, .gmail_quote, .yahoo_quoted, .moz-cite-prefix ~ blockquote"

_RULE = re.compile(
    r"^[-_—\s]*(原始邮件|原始信息|原始郵件|原邮件|转发邮件|转发的邮件|回复的原邮件|"
    r"original message|original appointment|forwarded message)[-_—:：\s]*$",
    re.IGNORECASE,
)
_WROTE = re.compile(
    r"^(on\b.{6,200}\bwrote\s*[:：]|.{0,8}\d{4}\s*[年/.-]\s*\d{1,2}\s*[月/.-]\s*\d{1,2}.{0,160}(写道|写到|寫道|wrote)\s*[:：])\s*$",
    re.IGNORECASE,
)
_FROM = re.compile(r"^\W*(发件人|寄件人|寄件者|from)\W{0,3}\s*[:：]", re.IGNORECASE)
_WHEN = re.compile(
    r"^\W*(发送时间|发送日期|寄件日期|日期|时间|sent|date|to|收件人|主题|subject)\W{0,3}\s*[:：]", re.IGNORECASE
)
_SIGNATURE = re.compile(
    r"^(--|-- |—{2,}|发自我的.{0,30}|發自我的.{0,30}|来自我的.{0,30}|从我的.{0,20}发送|sent from my .{1,30}|"
    r"get outlook for .{1,30}|sent from outlook.{0,30}|"
    r"此致|此致[，,]?\s*敬礼[!！。]?|祝[:：]?\s*商祺[!！。]?|顺祝商祺[!！。]?)$",
    re.IGNORECASE,
)


def new_text(text: str) -> str:
    """What the sender wrote anew; the whole text where nothing new can be told apart.

    Answers between quoted lines stay, the quoted lines go.

    Examples
    --------
    >>> new_text("电池漏液了。\\n发自我的iPhone\\n\\n在 2026年1月5日, 客服 写道：\\n> 请描述问题")
    '电池漏液了。'
    """
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    kept = _without_quotes(lines)
    body = _without_signature("\n".join(kept).strip())
    if body:
        head, ending = body[:-ENDING], body[-ENDING:]
        replies = EmailReplyParser(languages=["en", "zh"]).read(ending).replies
        body = f"{head}{replies[0].body if replies else ''}".strip() or body
    return re.sub(r"\n{3,}", "\n\n", body).strip() or text.strip()


def _without_quotes(lines: list[str]) -> list[str]:
    """Lines before the first quotation; and those after it that are not marked as quoted, where others are."""
    start = next((place for place in range(len(lines)) if _starts_quotation(lines, place)), None)
    if start is None:
        return [line for line in lines if not _is_quoted(line)]
    head, tail = lines[:start], lines[start:]
    answers = [line for line in tail[1:] if not _is_quoted(line)] if any(map(_is_quoted, tail[1:4])) else []
    if answers and re.search(r"(wrote|写道|写到|寫道)\s*[:：]\s*$", answers[0], re.IGNORECASE):
        answers = answers[1:]
    return [line for line in [*head, *answers] if not _is_quoted(line)]


def _is_quoted(line: str) -> bool:
    return line.lstrip().startswith((">", "＞", "|>"))


def _starts_quotation(lines: list[str], place: int) -> bool:
    line = lines[place].strip()
    if _RULE.match(line) or _WROTE.match(line):
        return True
    following = " ".join(part.strip() for part in lines[place : place + 2])  # programs break this line in two
    if line.lower().startswith("on ") and _WROTE.match(following):
        return True
    return bool(_FROM.match(line)) and sum(bool(_WHEN.match(other)) for other in lines[place + 1 : place + 6]) >= 2


def _without_signature(text: str) -> str:
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if place and _SIGNATURE.match(line.strip() or "x"):
            return "\n".join(lines[:place]).strip()
    return text


def html_text(page: str) -> str:
    """The text of an HTML body as a person sees it; quoted blocks as lines that start with `>`.

    Examples
    --------
    >>> html_text("<p>Hello<br>there</p><blockquote>old</blockquote>")
    'Hello\\nthere\\n\\n> old'
    """
    soup = BeautifulSoup(page, "html.parser")
    for tag in soup(["script", "style", "head", "title", "template"]):
        tag.decompose()
    for quote in reversed(soup.select(_QUOTES)):  # the innermost first
        quoted = "\n".join(f"> {line}" for line in _visible(quote).split("\n"))
        quote.replace_with(f"\n{quoted}\n")
    return _visible(soup)


def _visible(node: BeautifulSoup) -> str:  # a tag, too
    for line_break in node.find_all("br"):
        line_break.replace_with("\n")
    for block in node.find_all(_BLOCKS):
        block.insert_before("\n")
        block.append("\n")
    text = node.get_text().replace("\u00a0", " ").replace("\u200b", "")
    lines = [re.sub(r"[ \t\r\f\v]+", " ", line).strip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
