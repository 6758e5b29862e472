"""The page behind real reverse proxies, with the very configurations of docs/team.md."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from dfal.data.datasets import Dataset
from dfal.labelling.store.session import Session
from labelled import DIGITS, Served, index_in, some_pngs

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")

DOCS = Path(__file__).parents[2] / "docs" / "team.md"
NAME = "labels.example.org"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def documented(language: str) -> str:
    """The configuration that the documentation shows."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """The configuration with other places; each must be there to be replaced."""
    for before, after in pairs:
        assert before in text, before
        text = text.replace(before, after)
    return text


class Site:
    """A page under `https://labels.example.org:PORT/photos/`, and what a proxy in front of it
    needs."""

    def __init__(self, root: Path, digits: Dataset):
        self.root, self.port = root, free_port()
        self.certificate, self.key = root / "site.crt", root / "site.key"
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "1",
                    "-subj",
                    f"/CN={NAME}",
                ),
                *(
                    "-addext",
                    f"subjectAltName=DNS:{NAME}",
                    "-keyout",
                    str(self.key),
                    "-out",
                    str(self.certificate),
                ),
            ],
            check=True,
            capture_output=True,
        )
        self.url = f"https://{NAME}:{self.port}/photos/"
        self.truth = some_pngs(root / "photos", digits, 40)
        self.served = Served(
            root / "photos", "--classes", *DIGITS, "--holdout", "0", "--url", self.url
        )
        self.token = (root / ".photos.labels.db.token").read_text()

    def visitor(self) -> httpx.Client:
        """Somebody who trusts the certificate; cookies are kept."""
        trusted = ssl.create_default_context(cafile=str(self.certificate))
        return httpx.Client(verify=trusted, timeout=20, follow_redirects=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Iterator[Site]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl is installed: apt install openssl")
    made = Site(tmp_path_factory.mktemp("site"), digits)
    yield made
    made.served.stop()


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public name is this machine's."""
    known = socket.getaddrinfo

    def found(host: Any, *rest: Any, **more: Any) -> Any:
        return known("127.0.0.1" if host in {NAME, NAME.encode()} else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


def nginx(site: Site, *changes: tuple[str, str]) -> list[str]:
    """The command of an nginx with the documented site."""
    server = replaced(
        documented("nginx"),
        ("listen 443 ssl", f"listen 127.0.0.1:{site.port} ssl"),
        (f"/etc/ssl/{NAME}.crt", str(site.certificate)),
        (f"/etc/ssl/{NAME}.key", str(site.key)),
        ("127.0.0.1:8765", f"127.0.0.1:{site.served.port}"),
        *changes,
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {site.root}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    (site.root / "nginx.conf").write_text(
        f"{user} daemon off; pid {site.root}/nginx.pid; events {{}} http {{ access_log off;"
        f" {temporary} {server} }}"
    )
    return ["nginx", "-p", str(site.root), "-e", "stderr", "-c", str(site.root / "nginx.conf")]


def nginx_with_its_own_host(site: Site) -> list[str]:
    return nginx(site, ("proxy_set_header Host $http_host;", ""))


def nginx_that_keeps_the_path(site: Site) -> list[str]:
    return nginx(site, (f"127.0.0.1:{site.served.port}/;", f"127.0.0.1:{site.served.port};"))


def nginx_that_keeps_the_path_and_its_own_host(site: Site) -> list[str]:
    changes = (
        (f"127.0.0.1:{site.served.port}/;", f"127.0.0.1:{site.served.port};"),
        (
            "Host $http_host",
            "Host $proxy_host",
        ),
    )
    return nginx(site, *changes)


def caddy(site: Site) -> list[str]:
    """The command of a Caddy with the documented site."""
    server = replaced(
        documented("caddyfile"),
        (f"{NAME} {{", f"https://{NAME}:{site.port} {{\n    tls {site.certificate} {site.key}"),
        ("127.0.0.1:8765", f"127.0.0.1:{site.served.port}"),
    )
    (site.root / "Caddyfile").write_text(
        f"{{\n    admin off\n    auto_https disable_redirects\n}}\n{server}"
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(site.root / "Caddyfile")]


PROXIES = [
    nginx,
    nginx_with_its_own_host,
    nginx_that_keeps_the_path,
    nginx_that_keeps_the_path_and_its_own_host,
    caddy,
]


@contextlib.contextmanager
def running(site: Site, proxy: Callable[[Site], list[str]]) -> Iterator[None]:
    """The proxy, for as long as it is needed."""
    command = proxy(site)
    if not shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip(f"no {command[0]} is installed: apt install {command[0]}")
    environment = os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": str(site.root)}
    environment |= {name: str(site.root / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        for _ in range(400):
            assert process.poll() is None, process.communicate()[0]
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", site.port), 1),
            ):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_page_is_used_through_a_proxy(site: Site, proxy: Callable[[Site], list[str]]) -> None:
    with running(site, proxy), site.visitor() as web:
        assert web.get(site.url).status_code == 401
        assert web.get(site.url.rstrip("/")).status_code == 401, (
            "without the slash it is the same page"
        )
        opened = web.get(f"{site.url}?token={site.token}")
        assert (opened.status_code, str(opened.url)) == (200, site.url)
        (cookie,) = web.cookies.jar
        assert (cookie.path, cookie.secure, cookie.domain.removesuffix(".local")) == (
            "/photos/",
            True,
            NAME,
        )
        for file in re.findall(r'(?:src|href)="([^"#]+)"', opened.text):
            assert web.get(site.url + file).status_code == 200, file
        own = {"origin": site.url.removesuffix("/photos/"), "sec-fetch-site": "same-origin"}
        me = {"person": proxy.__name__, "holder": "h"}
        (question,) = web.post(f"{site.url}api/ask", json=me | {"count": 1}, headers=own).json()[
            "questions"
        ]
        picture = web.get(f"{site.url}api/images/{question['image']}?version={question['version']}")
        assert picture.content == (site.root / "photos" / question["path"]).read_bytes()
        assert "immutable" in picture.headers["cache-control"]
        told = {
            "question": question["id"],
            "image": question["image"],
            "label": 7,
            "person": proxy.__name__,
        }
        for foreign in (
            {"origin": "https://evil.example"},
            {"origin": f"https://evil.{NAME}:{site.port}"},
            {"origin": f"http://{NAME}:{site.port}"},
            {"origin": f"https://{NAME}"},
            {"origin": "null"},
            own | {"sec-fetch-site": "cross-site"},
        ):
            refused = web.post(f"{site.url}api/tell", json=told, headers=foreign)
            assert refused.status_code == 403, foreign
        assert web.post(f"{site.url}api/tell", json=told, headers=own).status_code == 200
        described = web.get(f"{site.url}api/openapi.json").json()
        assert described["servers"] == [{"url": "/photos"}]
        assert "/api/ask" in described["paths"]
        assert web.get(f"{site.url}api/export").text.count(f",7,{proxy.__name__},") == 1
    with Session.open(site.root / "photos.labels.db") as session:
        assert session.state.labels[question["image"]] == 7


@pytest.mark.parametrize("proxy", [nginx_with_its_own_host, caddy])
def test_a_browser_labels_through_a_proxy(site: Site, proxy: Callable[[Site], list[str]]) -> None:
    pytest.importorskip("playwright", reason="the browser is driven by playwright")
    from playwright.sync_api import sync_playwright

    chromium = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if chromium is None:
        pytest.skip("no chromium is installed: apt install chromium")
    errors: list[str] = []
    with running(site, proxy), sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(ignore_https_errors=True)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.on(
            "response",
            lambda response: errors.append(response.url) if response.status >= 400 else None,
        )
        page.goto(f"{site.url}?token={site.token}")
        page.fill("dialog input", f"browser {proxy.__name__}")
        page.keyboard.press("Enter")
        page.wait_for_selector(".stage img.here")
        assert page.url.partition("#")[0] == site.url, "the token is not left in the address"
        before = str(page.get_attribute(".stage img", "alt"))
        page.keyboard.press("3")
        page.wait_for_function(
            "before => document.querySelector('.stage img')?.alt !== before", arg=before
        )
        page.click("nav >> text=Review")
        page.wait_for_selector(f".card >> text=browser {proxy.__name__}")
        page.wait_for_selector(".card img.here")
        with page.expect_download() as download:
            page.click("text=Download the labels as CSV")
        assert f",3,browser {proxy.__name__}," in download.value.path().read_text()
        errors = [
            error for error in errors if "/api/export" not in error
        ]  # a download is no page: that is said as a failure
        browser.close()
    assert errors == []
    with Session.open(site.root / "photos.labels.db") as session:
        assert session.state.labels[index_in(before)[0]] == 3
