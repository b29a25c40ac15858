"""The chat page's files: their contents and headers. test_page_browser.py tests the page in a browser."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import httpx
import pytest
from serving import serving

from binhdan.runtime.server.api import page

FOLDER = files("binhdan.runtime.server") / "page"
ALL = {name: FOLDER.joinpath(*name.split("/")).read_text("utf-8") for name in page.FILES}
SOURCES = {name: source for name, source in ALL.items() if not name.startswith("vendor/")}
VOID = {"input", "link", "meta", "path", "use"}
ADDRESSES = [("/" if name == page.INDEX else f"/page/{name}", name) for name in page.FILES]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(keys={"ba": {"key": "khong-can-cho-trang"}}) as url:
        with httpx.Client(base_url=url) as client:
            yield client


class Elements(HTMLParser):
    """Parses all elements as (tag, attributes, text). Asserts that each one is closed exactly once."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, Any], list[str]]] = []
        self._open: list[int] = []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"duplicate attribute: {attrs}"
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID or (tag in ("use", "path") and not self.get_starttag_text().endswith("/>")):
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self._open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.found[self._open[-1]][2].append(data)


ELEMENTS = Elements(SOURCES[page.INDEX]).found


def test_the_list_of_files_matches_the_folder() -> None:
    assert sorted([*page.FILES, "vendor/README.md"]) == sorted(names_in(FOLDER))


def names_in(folder: Traversable, place: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from names_in(entry, f"{place}{entry.name}/")
        else:
            yield place + entry.name


def test_the_libraries_are_those_of_their_readme() -> None:
    readme = FOLDER.joinpath("vendor", "README.md").read_text("utf-8")
    libraries = [name for name in ALL if name.startswith("vendor/") and name.endswith(".js")]
    for name in libraries:
        assert hashlib.sha256(ALL[name].encode()).hexdigest() in readme, name
        assert f"{name.rpartition('/')[0]}/LICENSE.txt" in ALL
    assert f'version:"{re.search("KaTeX ([0-9.]+)", readme)[1]}"' in ALL["vendor/katex/katex.min.js"]


@pytest.mark.parametrize(("path", "name"), ADDRESSES)
def test_each_file_is_served(client: httpx.Client, path: str, name: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200 and answer.text == ALL[name]
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    kinds["txt"] = "text/plain"
    assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
    head = client.head(path)
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == str(len(answer.content))
    assert head.headers["etag"] == answer.headers["etag"]


def test_security_headers(client: httpx.Client) -> None:
    headers = client.get("/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(r"unsafe|\*|http|data:|blob:", headers["content-security-policy"])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_files_are_cached_until_they_change(client: httpx.Client) -> None:
    first = client.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/page/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == tag
    for other in ('"other"', "", tag.strip('"')):
        assert client.get("/page/app.js", headers={"if-none-match": other}).status_code == 200
    assert client.get("/page/api.js").headers["etag"] != tag


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/index.html",
        "/page/../routes/page.py",
        "/page/%2e%2e/errors.py",
        "/page/..%2ferrors.py",
    ],
)
def test_other_files_are_not_served(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (401, 404) and "error" in answer.json()


def test_only_get_and_head_are_allowed(client: httpx.Client) -> None:
    key = {"authorization": "Bearer khong-can-cho-trang"}
    assert client.post("/", headers=key, json={}).status_code == 405
    assert client.post("/page/app.js", headers=key, json={}).status_code == 405


def test_the_page_can_be_disabled(client: httpx.Client) -> None:
    with serving(page=False) as url:
        assert httpx.get(url).status_code == 404
        assert httpx.get(f"{url}/page/app.js").status_code == 404


def test_the_page_is_not_in_openapi(client: httpx.Client) -> None:
    key = {"authorization": "Bearer khong-can-cho-trang"}
    assert not any(
        path.startswith("/page") for path in client.get("/openapi.json", headers=key).json()["paths"]
    )


def test_references_are_complete() -> None:
    """The page references every file, directly or indirectly, and every referenced file exists."""
    reached, pending = set(), [page.INDEX]
    while pending:
        name = pending.pop()
        reached.add(name)
        if name.endswith(".js"):
            names = re.findall(r'(?:from |import |import\()"\./([^"]+)"', ALL[name])
        elif name == page.INDEX:
            links = [attrs.get("src") or attrs.get("href") or "" for _, attrs, _ in ELEMENTS]
            names = [link.removeprefix("page/") for link in links if link.startswith("page/")]
        else:
            names = []
        assert set(names) <= set(page.FILES)
        pending += set(names) - reached
    assert reached == {name for name in page.FILES if not name.endswith("LICENSE.txt")}


def test_nothing_is_loaded_from_other_servers() -> None:
    for name, source in SOURCES.items():
        addresses = set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"']*""", source))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert "@import" not in source and "url(" not in source


def test_scripts_do_not_parse_text_as_markup() -> None:
    for name, source in SOURCES.items():
        if name.endswith(".js"):
            found = re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"
                r"|DOMParser|createContextualFragment|setHTMLUnsafe|javascript:",
                source,
            )
            assert found is None, f"{name}: {found}"


def test_the_document_is_well_formed_and_accessible() -> None:
    ids = [attrs["id"] for _, attrs, _ in ELEMENTS if "id" in attrs]
    assert len(ids) == len(set(ids))
    tags = [tag for tag, _, _ in ELEMENTS]
    assert tags.count("main") == tags.count("h1") == tags.count("title") == 1
    for tag, attrs, text in ELEMENTS:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (
            "the content security policy forbids inline code"
        )
        assert tag != "style" and (tag != "script" or (attrs["src"] and not text))
        for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
            assert set(attrs.get(name, "").split()) <= set(ids)
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
        if tag == "button":
            assert attrs["type"] in ("button", "submit")
            classes = attrs.get("class", "").split()
            if ("icon" in classes or "round" in classes) and not {"delete", "rename"} & set(classes):
                assert attrs["aria-label"]
    known = {f'$("{name}")' for name in ids}
    scripts = "".join(source for name, source in SOURCES.items() if name.endswith(".js"))
    assert set(re.findall(r'\$\("[\w-]+"\)', scripts)) <= known


def test_every_text_has_an_english_translation() -> None:
    source = re.sub(r"^\s*//.*$", "", SOURCES["english.js"], flags=re.MULTILINE)
    literal = source[source.index("{") : source.rindex("}") + 1]
    english = json.loads(re.sub(r",\s*}", "}", literal))
    used = set()
    for _, attrs, text in ELEMENTS:
        if attrs.get("data-t") == "" or ("data-t" in attrs and attrs["data-t"] is None):
            used.add("".join(text).strip())
        elif attrs.get("data-t"):
            used |= {attrs[name] for name in attrs["data-t"].split()}
    for name, source in SOURCES.items():
        if name.endswith(".js"):
            used |= set(re.findall(r'(?<![\w.])t\(\s*"([^"]+)"', source))
    assert used == set(english)
    for vietnamese, translated in english.items():
        assert sorted(re.findall(r"\{\w+\}", vietnamese)) == sorted(re.findall(r"\{\w+\}", translated))


def test_lines_are_short() -> None:
    for name, source in SOURCES.items():
        if name.endswith(".js") and name != "english.js":
            assert max(map(len, source.splitlines())) <= 110, name
