"""The mode of wandb, and whether its server answers."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import wandb

from alpharefine.errors import UserError
from alpharefine.tracking import no_answer, resolve_mode


class TestMode:
    @pytest.mark.parametrize(
        ("mode", "has_key", "fault", "resolved"),
        [
            ("auto", True, "", "online"),
            ("auto", True, "no route", "offline"),
            ("auto", False, "", "offline"),
            ("online", True, "", "online"),
            ("offline", True, "", "offline"),
        ],
    )
    def test_modes(self, monkeypatch, capsys, mode, has_key, fault, resolved) -> None:
        asked = []
        monkeypatch.setattr(wandb, "login", lambda **options: asked.append(options) or has_key)
        monkeypatch.setattr("alpharefine.tracking.no_answer", lambda *_: fault)
        assert resolve_mode(mode) == resolved
        assert asked == ([] if mode == "offline" else [{"prompt": False, "verify": False}])
        assert capsys.readouterr().err.count("the run is tracked offline\n") == bool(fault)
        assert resolve_mode(mode, is_quiet=True) == resolved
        assert not capsys.readouterr().err

    @pytest.mark.parametrize(
        ("has_key", "fault", "message"),
        [
            (False, "", "`--wandb online` requires a key, found none; set WANDB_API_KEY"),
            (True, "no route", r"`--wandb online`: no answer from \S+ \(no route\); use `--wandb offline`"),
        ],
    )
    def test_online_without_a_key_or_network(self, monkeypatch, has_key, fault, message) -> None:
        monkeypatch.setattr(wandb, "login", lambda **_: has_key)
        monkeypatch.setattr("alpharefine.tracking.no_answer", lambda *_: fault)
        with pytest.raises(UserError, match=message):
            resolve_mode("online")

    def test_auto_without_a_key_asks_nobody_and_stays_offline(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.setattr("alpharefine.tracking.no_answer", None)
        assert resolve_mode("auto") == "offline"


class TestAnswer:
    def test_a_closed_port(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert "refused" in no_answer(f"http://127.0.0.1:{port}", 5)

    def test_a_server_that_says_nothing(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            assert no_answer(f"http://127.0.0.1:{silent.getsockname()[1]}", 0.2)

    def test_any_status_is_an_answer(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.handle_request, daemon=True).start()
            assert not no_answer(f"http://127.0.0.1:{server.server_port}", 5)

    def test_no_address(self) -> None:
        assert no_answer("nowhere", 5)
