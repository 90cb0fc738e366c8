"""Who has an account gets in, who has not learns nothing, and a stolen token ends itself."""

from __future__ import annotations

import base64
import json
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import bcrypt
import jwt
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from main import create_app
from service.accounts import Accounts
from service.database import Database, open_database
from service.tables import RefreshToken, User, utc_now
from service.tokens import AUDIENCE, ISSUER, AccessTokens
from tests.conftest import settings_in

SECRET = "a-secret-of-the-tests-7c1e5a9f3b2d8046-0f9e8d7c6b5a43210f9e8d7c6b5a4321"
KEY = "a-key-of-the-tests-4f9a1c7b"
ALICE = {"username": "alice@example.com", "password": "correct horse battery", "full_name": "Alice A."}


def service(folder: Path, **changes: Any) -> TestClient:
    settings = settings_in(folder, auth_secret_key=SECRET, rate_limit_login="off", **changes)
    return TestClient(create_app(settings))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with service(tmp_path, auth_required=True) as client:
        client.post("/api/v1/auth/register", json=ALICE)
        yield client


def log_in(client: TestClient, **changes: str) -> dict[str, Any]:
    body = {"username": ALICE["username"], "password": ALICE["password"]} | changes
    answer: dict[str, Any] = client.post("/api/v1/auth/login", json=body).raise_for_status().json()
    return answer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_register_log_in_and_ask_who_i_am(client: TestClient) -> None:
    answer = client.post("/api/v1/auth/register", json=ALICE | {"username": "Bob"})
    assert answer.status_code == 201
    assert "password" not in answer.text
    tokens = log_in(client)
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == 1800
    me = client.get("/api/v1/auth/me", headers=bearer(tokens["access_token"])).json()
    assert me == {
        "id": me["id"],
        "username": ALICE["username"],
        "full_name": "Alice A.",
        "created_at": me["created_at"],
    }
    assert client.get("/models", headers=bearer(tokens["access_token"])).status_code == 200
    assert client.get("/models").status_code == 401


def test_a_username_is_the_same_in_any_case_and_taken_once(client: TestClient) -> None:
    assert log_in(client, username="  Alice@Example.COM ")
    again = client.post("/api/v1/auth/register", json=ALICE | {"username": "ALICE@example.com"})
    assert (again.status_code, again.json()["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize(
    "change",
    [
        {"password": "short"}, {"password": ""}, {"password": "x" * 257}, {"password": None}, {"password": 12345678},
        {"username": ""}, {"username": "a b"}, {"username": "a\x00b"}, {"username": "x" * 255}, {"username": ["a"]},
        {"full_name": "x" * 201},
    ],
)  # fmt: skip
def test_unusable_registrations_are_422_and_not_echoed(client: TestClient, change: dict[str, Any]) -> None:
    answer = client.post("/api/v1/auth/register", json=ALICE | change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][-1] in change
    assert ALICE["password"] not in answer.text


def test_a_wrong_password_and_an_unknown_name_are_told_alike(client: TestClient) -> None:
    answers = [
        client.post("/api/v1/auth/login", json={"username": name, "password": "wrong password"})
        for name in (ALICE["username"], "nobody@example.com")
    ]
    told = [answer.json() | {"request_id": None} for answer in answers]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert told[0] == told[1]


def test_a_password_is_checked_for_unknown_names_too() -> None:
    """The work is the same, so the time is: counted in the processor's, which other processes hardly disturb."""
    accounts = memory_accounts()
    accounts.register("alice", "correct horse battery", None)

    def cost(name: str) -> float:
        begin = time.process_time()
        with pytest.raises(Exception, match="wrong"):
            accounts.login(name, "wrong password")
        return time.process_time() - begin

    known, unknown = (statistics.median(cost(name) for _ in range(7)) for name in ("alice", "nobody"))
    assert 0.5 < known / unknown < 2


def memory_accounts(database: Database | None = None) -> Accounts:
    tokens = AccessTokens(SECRET, lifetime=timedelta(minutes=30))
    return Accounts(database or open_database(None), tokens, refresh_lifetime=timedelta(days=7))


def test_a_refresh_token_works_once_and_the_next_one_goes_on(client: TestClient) -> None:
    first = log_in(client)
    second = client.post("/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert client.get("/models", headers=bearer(second["access_token"])).status_code == 200
    third = client.post("/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert third.status_code == 200


def test_a_refresh_token_used_twice_ends_its_login_and_no_other(client: TestClient) -> None:
    stolen, elsewhere = log_in(client)["refresh_token"], log_in(client)["refresh_token"]
    owner = client.post("/api/v1/auth/refresh", json={"refresh_token": stolen}).json()["refresh_token"]
    thief = client.post("/api/v1/auth/refresh", json={"refresh_token": stolen})
    assert (thief.status_code, thief.json()["code"]) == (401, "UNAUTHORIZED")
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": owner}).status_code == 401
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": elsewhere}).status_code == 200


def test_logout_ends_the_login(client: TestClient) -> None:
    token = log_in(client)["refresh_token"]
    assert client.post("/api/v1/auth/logout", json={"refresh_token": token}).json() == {"success": True}
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": token}).status_code == 401
    assert client.post("/api/v1/auth/logout", json={"refresh_token": "unknown"}).status_code == 200


def test_an_expired_refresh_token_is_refused_and_swept() -> None:
    database = open_database(None)
    accounts = memory_accounts(database)
    accounts.register("alice", "correct horse battery", None)
    token = accounts.login("alice", "correct horse battery").refresh_token
    with database.session() as session:
        session.execute(sa.update(RefreshToken).values(expires_at=utc_now() - timedelta(seconds=1)))
    with pytest.raises(Exception, match="not valid"):
        accounts.refresh(token)
    assert accounts.sweep() == 1


def access_token(secret: str = SECRET, algorithm: str = "HS256", without: str = "", **changes: Any) -> str:
    now = int(time.time())
    claims = {"sub": str(uuid4()), "iat": now, "exp": now + 60, "jti": "1", "iss": ISSUER, "aud": AUDIENCE} | changes
    return jwt.encode({name: value for name, value in claims.items() if name != without}, secret, algorithm=algorithm)


def unsigned_token() -> str:
    payload = access_token().split(".")[1]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}."


def tampered_token() -> str:
    header, payload, signature = access_token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = str(UUID(int=1))
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{forged}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        unsigned_token(),
        tampered_token(),
        access_token(exp=int(time.time()) - 1),
        access_token(SECRET[::-1]),
        access_token(algorithm="HS512"),
        access_token(aud="another service"),
        access_token(iss="another service"),
        *(access_token(without=claim) for claim in ("sub", "iat", "exp", "jti", "iss", "aud")),
        access_token(sub="not a uuid"),
        "a.b.c", "ipk_unknown", "\xe4\xf6\xfc", "x" * 5000,
    ],
)  # fmt: skip
def test_a_token_that_is_not_exactly_ours_is_refused(client: TestClient, token: str) -> None:
    answer = client.get("/models", headers={b"Authorization": f"Bearer {token}".encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_of_a_deleted_account_says_so(client: TestClient) -> None:
    token = log_in(client)["access_token"]
    assert client.delete("/api/v1/auth/me", headers=bearer(token)).json() == {"success": True}
    assert client.get("/api/v1/auth/me", headers=bearer(token)).status_code == 401
    login = client.post("/api/v1/auth/login", json={"username": ALICE["username"], "password": ALICE["password"]})
    assert login.status_code == 401


def test_another_password_ends_all_logins(client: TestClient) -> None:
    tokens = log_in(client)
    change = {"old_password": ALICE["password"], "new_password": "another long password"}
    headers = bearer(tokens["access_token"])
    wrong = client.post("/api/v1/auth/password", headers=headers, json=change | {"old_password": "wrong"})
    assert wrong.status_code == 401
    assert client.post("/api/v1/auth/password", headers=headers, json=change).json() == {"success": True}
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 401
    assert log_in(client, password="another long password")


def test_keys_are_made_listed_used_and_revoked(client: TestClient) -> None:
    headers = bearer(log_in(client)["access_token"])
    made = client.post("/api/v1/auth/api-keys", headers=headers, json={"name": "web shop"})
    assert made.status_code == 201
    key = made.json()["key"]
    assert key.startswith("ipk_")
    assert client.get("/models", headers=bearer(key)).status_code == 200
    assert client.get("/api/v1/auth/me", headers=bearer(key)).json()["username"] == ALICE["username"]
    listed = client.get("/api/v1/auth/api-keys", headers=headers)
    assert key not in listed.text
    (entry,) = listed.json()["keys"]
    assert entry["last_used_at"] is not None
    assert key.startswith(entry["start"])
    assert client.delete(f"/api/v1/auth/api-keys/{entry['id']}", headers=headers).status_code == 200
    assert client.get("/models", headers=bearer(key)).status_code == 401
    assert client.delete(f"/api/v1/auth/api-keys/{entry['id']}", headers=headers).status_code == 404


def test_one_user_cannot_revoke_or_see_anothers_keys(client: TestClient) -> None:
    client.post("/api/v1/auth/register", json=ALICE | {"username": "mallory"})
    alice, mallory = (bearer(log_in(client, username=name)["access_token"]) for name in (ALICE["username"], "mallory"))
    entry = client.post("/api/v1/auth/api-keys", headers=alice, json={"name": "shop"}).json()
    assert client.get("/api/v1/auth/api-keys", headers=mallory).json() == {"keys": []}
    assert client.delete(f"/api/v1/auth/api-keys/{entry['id']}", headers=mallory).status_code == 404


def test_an_expired_key_is_unknown() -> None:
    accounts = memory_accounts()
    user = accounts.register("alice", "correct horse battery", None)
    _, text = accounts.create_key(user.id, "old", lifetime=timedelta(seconds=-1))
    assert accounts.user_of_key(text) is None


def test_accounts_need_an_account(client: TestClient) -> None:
    for method, path in (("GET", "me"), ("DELETE", "me"), ("GET", "api-keys"), ("POST", "api-keys")):
        answer = client.request(method, f"/api/v1/auth/{path}", json={"name": "x"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED"), path


def test_a_bcrypt_hash_is_checked_and_replaced() -> None:
    database = open_database(None)
    accounts = memory_accounts(database)
    user = accounts.register("alice", "correct horse battery", None)
    old = bcrypt.hashpw(b"correct horse battery", bcrypt.gensalt(4)).decode()
    with database.session() as session:
        session.execute(sa.update(User).where(User.id == user.id).values(password_hash=old))
    with pytest.raises(Exception, match="wrong"):
        accounts.login("alice", "x" * 100)
    accounts.login("alice", "correct horse battery")
    assert accounts.user(user.id).password_hash.startswith("$argon2id$")
    accounts.login("alice", "correct horse battery")


def test_with_an_api_key_strangers_make_no_accounts(tmp_path: Path) -> None:
    with service(tmp_path, api_key=KEY) as client:
        refused = client.post("/api/v1/auth/register", json=ALICE)
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
        assert client.post("/api/v1/auth/register", json=ALICE, headers=bearer(KEY)).status_code == 201
        assert client.get("/models", headers=bearer(log_in(client)["access_token"])).status_code == 200


@pytest.mark.parametrize(("setting", "status"), [("open", 201), ("closed", 403)])
def test_registration_is_the_operators_choice(tmp_path: Path, setting: str, status: int) -> None:
    with service(tmp_path, api_key=KEY, auth_registration=setting) as client:
        assert client.post("/api/v1/auth/register", json=ALICE).status_code == status


def test_ten_thousand_guesses_are_held_off(tmp_path: Path) -> None:
    """A tenth of them suffices to show: ten tries, and all others are turned away before a password is looked at."""
    settings = settings_in(tmp_path, auth_secret_key=SECRET, rate_limit="off")
    with TestClient(create_app(settings)) as client:
        client.post("/api/v1/auth/register", json=ALICE)
        guesses = [
            client.post("/api/v1/auth/login", json={"username": ALICE["username"], "password": f"guess {number}"})
            for number in range(1000)
        ]
    statuses = [guess.status_code for guess in guesses]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) <= 10
    assert int(guesses[-1].headers["Retry-After"]) >= 1


def test_secrets_are_in_no_log(client: TestClient, capfd: pytest.CaptureFixture[str]) -> None:
    tokens = log_in(client)
    client.get("/models", headers=bearer(tokens["access_token"]))
    client.post("/api/v1/auth/login", json={"username": ALICE["username"], "password": "wrong password"})
    out = "".join(capfd.readouterr())
    for secret in (ALICE["password"], "wrong password", tokens["access_token"], tokens["refresh_token"], SECRET):
        assert secret not in out
