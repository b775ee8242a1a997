"""The words of the page that signs in, until they stand among those of the pages (``web/words``)."""

from __future__ import annotations

from collections.abc import Mapping

COOKIE, LANGUAGES, DEFAULT = "polydetr_language", {"en": "English", "zh": "中文"}, "en"
SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "login.title": "Sign in",
        "login.name": "Name",
        "login.password": "Password",
        "login.button": "Sign in",
        "login.done": "You are signed in.",
        "login.wrong": "The name or the password is wrong.",
        "login.wait": "Too many attempts. Try again in {seconds} s.",
        "login.long": "That is longer than any name and password.",
        "login.form": "This is not what the form on this page sends.",
        "login.origin": "This form was sent by a page of another site. Sign in on this page.",
        "login.unavailable": "Signing in does not work at this moment. Try again; the service's log says why.",
        "login.nobody": "Nobody can sign in yet. On the machine of this service:",
        "login.ended": "Nobody is signed in.",
    },
    "zh": {
        "login.title": "登录",
        "login.name": "用户名",
        "login.password": "密码",
        "login.button": "登录",
        "login.done": "已登录。",
        "login.wrong": "用户名或密码错误。",
        "login.wait": "尝试次数过多，请在 {seconds} 秒后重试。",
        "login.long": "输入过长，不可能是用户名或密码。",
        "login.form": "提交的内容不是本页表单的格式。",
        "login.origin": "该表单来自其他网站的页面，请在本页登录。",
        "login.unavailable": "暂时无法登录，请稍后重试；原因已写入服务日志。",
        "login.nobody": "尚未添加用户。请在运行本服务的机器上执行：",
        "login.ended": "当前未登录。",
    },
}


class Words:
    """``words("login.title")`` in one language."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else DEFAULT

    def __call__(self, name: str, /, **values: object) -> str:
        return SENTENCES[self.language][name].format(**values)


def language_of(cookie: str | None, accepted: str | None) -> str:
    """What was chosen; else the first of the browser's languages (Accept-Language, RFC 9110, 12.5.4) that there is."""
    if cookie in LANGUAGES:
        return cookie
    weighed: list[tuple[float, str]] = []
    for part in (accepted or "")[:500].split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weighed.append((-float(weight or 1), tag.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(weighed, key=lambda one: one[0]) if tag in LANGUAGES), DEFAULT)
