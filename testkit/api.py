"""Requests to the JSON API, and what its errors must look like."""

import json

SHAPE = {"code", "detail", "field", "fields"}


def credentials(user, password="a long secret"):
    return {user.USERNAME_FIELD: user.get_username(), "password": password}


def post(client, path, data, **headers):
    body = data if isinstance(data, str | bytes) else json.dumps(data)
    return client.post(path, body, content_type="application/json", headers=headers)


def told(response, status, code):
    """Check that a response is an error in the one shape. Returns it."""
    assert response.status_code == status, response.content
    error = response.json()
    assert set(error) == SHAPE
    assert error["code"] == code
    assert error["detail"].endswith(".")
    assert error["field"] == next(iter(error["fields"]), None)
    return error


def bearer(client, user) -> dict:
    access = post(client, "/api/token/", credentials(user)).json()["access"]
    return {"Authorization": f"Bearer {access}"}
