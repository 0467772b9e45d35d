"""What Python's jwcrypto and PyJWT make of keys and tokens, and make themselves.

    jose.py FUNCTION [ARGUMENT...]      a token on standard input, where one is due

Each function prints what a test compares, or fails.
"""
import json
import sys
import time

import jwt as pyjwt
from jwcrypto import jwk, jwt


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def token():
    return sys.stdin.read().strip()


def claims():
    now = int(time.time())
    return {"iat": now, "exp": now + 600, "sun": "alice"}


# --- ours, read by them

def thumbprint_of_pem(path):
    print(jwk.JWK.from_pem(read(path)).thumbprint())


def thumbprint_of_jwk(path):
    print(jwk.JWK.from_json(read(path)).thumbprint())


def has_private(path):
    print(jwk.JWK.from_json(read(path)).has_private)


def kids(path):
    print(*(key["kid"] for key in jwk.JWKSet.from_json(read(path)) if not key.has_private))


def jwcrypto_verifies_by_set(path):
    keys = jwk.JWKSet.from_json(read(path))
    print(json.loads(jwt.JWT(jwt=token(), key=keys, algs=["RS256"]).claims)["sun"])


def jwcrypto_verifies_by_secret(path):
    key = jwk.JWK(kty="oct", k=jwk.base64url_encode(read(path)))
    print(json.loads(jwt.JWT(jwt=token(), key=key, algs=["HS256"]).claims)["sun"])


def pyjwt_verifies(algorithm, path):
    print(pyjwt.decode(token(), read(path), algorithms=[algorithm])["sun"])


def pyjwt_verifies_by_set(path):
    text = token()
    kid = pyjwt.get_unverified_header(text)["kid"]
    keys = pyjwt.PyJWKSet.from_json(read(path).decode()).keys
    key = next(key for key in keys if key.key_id == kid)
    print(pyjwt.decode(text, key.key, algorithms=["RS256"])["sun"])


# --- theirs, read by us: the steps that Slurm's users find on the web

def generate(kid, directory):
    key = jwk.JWK.generate(kty="RSA", size=2048, kid=kid, alg="RS256", use="sig")
    write(f"{directory}/private.pem", key.export_to_pem(private_key=True, password=None))
    write(f"{directory}/public.pem", key.export_to_pem())
    write(f"{directory}/private.jwk", key.export().encode())
    write(f"{directory}/public.jwk", key.export_public().encode())
    keys = jwk.JWKSet()
    keys.add(key)
    write(f"{directory}/public.json", keys.export(private_keys=False).encode())
    write(f"{directory}/private.json", keys.export().encode())
    print(key.thumbprint())


def jwcrypto_signs(path):
    key = jwk.JWK.from_json(read(path))
    made = jwt.JWT(header={"alg": "RS256", "kid": key["kid"]}, claims=claims())
    made.make_signed_token(key)
    print(made.serialize())


def pyjwt_signs(algorithm, path, *kid):
    headers = {"kid": kid[0]} if kid else None
    print(pyjwt.encode(claims(), read(path), algorithm=algorithm, headers=headers))


globals()[sys.argv[1]](*sys.argv[2:])
