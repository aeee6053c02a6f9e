"""The Hub, played by a server on this machine, and what tests of shared folders need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import torch

from messi_lib.consistency.sampling import sample_multistep, step_sigmas

FILES = ["README.md", "config.json", "model.safetensors"]


TOKEN = "hf_of_the_tests"


class Hub(ThreadingHTTPServer):
    """What `huggingface_hub` needs of the Hub to download, create and commit.

    `repos`: id -> {"private": bool, "commits": [{path: content}, ...]}; all files are regular ones
    (the Hub itself takes weights by another protocol). `log` has every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict] = {}
        self.log: list[str] = []
        self.messages: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def add(self, repo_id: str, folder: Path) -> None:
        """Commit the files of a folder, unconditionally."""
        repo = self.repos.setdefault(repo_id, {"private": False, "commits": []})
        repo["commits"].append({path.name: path.read_bytes() for path in folder.iterdir()})

    @staticmethod
    def sha(number: int) -> str:
        return f"{number:040x}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, content: bytes | dict | list, status: int = 200, **headers: str) -> None:
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, code: str = "", message: str = "no") -> None:
        self.answer({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def commit_of(self, repo: dict, revision: str) -> int | None:
        """Index of a commit by `main` or its name."""
        names = {Hub.sha(i): i for i in range(len(repo["commits"]))}
        names["main"] = len(repo["commits"]) - 1
        return names.get(revision)

    def do_GET(self):
        self.server.log.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path).strip("/")
        api = re.fullmatch(r"api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        resolve = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or resolve
        repo = self.server.repos.get(match[1]) if match else None
        if repo is None:  # the Hub does not tell missing from private
            return self.refuse(401, "RepoNotFound", "Repository not found")
        number = self.commit_of(repo, (api[3] or "main") if api else resolve[2])
        if number is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        files = repo["commits"][number] if repo["commits"] else {}
        if api and api[2] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
                for name, content in files.items()
            ]
            return self.answer(entries)
        if api:
            info = {"id": api[1], "sha": Hub.sha(number), "private": repo["private"]}
            return self.answer(info | {"siblings": [], "tags": []})
        if resolve[3] not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = files[resolve[3]]
        etag = f'"{blob(content)}"'
        self.answer(content, X_Repo_Commit=Hub.sha(number), ETag=etag)

    do_HEAD = do_GET

    def do_POST(self):
        self.server.log.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(403, message="the token has no write access")
        if path == "/api/repos/create":
            wish = json.loads(body)
            repo_id = f"{wish['organization']}/{wish['name']}"
            if repo_id in self.server.repos:
                return self.answer({"url": f"{self.server.url}/{repo_id}"}, 409)
            private = wish.get("visibility") == "private" or wish.get("private") is True
            self.server.repos[repo_id] = {"private": private, "commits": []}
            return self.answer({"url": f"{self.server.url}/{repo_id}"})
        if path == "/api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        repo_id, action = re.fullmatch(r"/api/models/(\w+/\w+)/(\w+)/main", path).groups()
        commits = self.server.repos[repo_id]["commits"]
        if action == "preupload":
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **mode} for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(commits[-1]) if commits else {}
        for line in lines[1:]:
            assert line["key"] == "file", line["key"]
            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.server.messages.append(lines[0]["value"]["summary"])
        commits.append(files)
        sha = Hub.sha(len(commits) - 1)
        self.answer({"commitUrl": f"{self.server.url}/{repo_id}/commit/{sha}", "commitOid": sha})


def blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As HF_ENDPOINT does when `huggingface_hub` is imported."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def images(denoiser) -> torch.Tensor:
    device = next(denoiser.parameters()).device
    assert device.type == "cpu"
    return sample_multistep(denoiser, 2, step_sigmas(2, denoiser), torch.Generator().manual_seed(0))


def edit(folder: Path, **changes) -> None:
    """Change fields of config.json; None removes one."""
    stored = json.loads((folder / "config.json").read_text()) | changes
    stored = {key: value for key, value in stored.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stored))


def error_of(kind: type[Exception], function, *arguments, **options) -> str:
    """The message of an error; it must have one line."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def snippet(text: str) -> str:
    return re.search("```python\n(.*?)```", text, re.S)[1]
