"""A verifier that knows no SPIFFE: PyJWT over the discovery document. Prints one JSON object per line.

  jwt_client.py verify ISSUER CAFILE AUDIENCE TOKEN   what the token says, after its signature held
  jwt_client.py forge KEYS_URL CAFILE TOKEN           forgeries of the token, `NAME TOKEN` each, with what PyJWT says
"""

import base64
import hashlib
import hmac
import json
import ssl
import sys
import urllib.request

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils


def say(**event):
    print(json.dumps(event), flush=True)


def get(url, cafile):
    with urllib.request.urlopen(url, context=ssl.create_default_context(cafile=cafile), timeout=10) as answer:
        kinds = {name: answer.headers[name] for name in ("content-type", "cache-control")}
        return json.load(answer), kinds


def judged(token, keys, algorithms, audience, issuer):
    """PyJWT as its own documentation says: the key by `kid`, the algorithms of the document, audience and issuer."""
    key = keys.get_signing_key_from_jwt(token)
    required = ["exp", "iat", "aud", "sub", "iss"]
    return jwt.decode(
        token, key, algorithms=algorithms, audience=audience, issuer=issuer, options={"require": required}
    )


def verify(issuer, cafile, audience, token):
    document, kinds = get(issuer.rstrip("/") + "/.well-known/openid-configuration", cafile)
    say(document=document, **kinds)
    context = ssl.create_default_context(cafile=cafile)
    keys = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context)
    algorithms = document["id_token_signing_alg_values_supported"]
    say(claims=judged(token, keys, algorithms, audience, document["issuer"]))
    for name, arguments in [("audience", ("billing", issuer)), ("issuer", (audience, issuer + "/other"))]:
        try:
            say(other=name, claims=judged(token, keys, algorithms, *arguments))
        except jwt.PyJWTError as error:
            say(other=name, error=type(error).__name__)


def encoded(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def decoded(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def forge(url, cafile, token):
    keys, _ = get(url, cafile)
    head, body, signature = token.split(".")
    header, claims, raw = json.loads(decoded(head)), json.loads(decoded(body)), decoded(signature)
    public = jwt.PyJWK(keys["keys"][0]).key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    own = ec.generate_private_key(ec.SECP256R1())
    admin = {**claims, "sub": "spiffe://example.org/admin"}

    def by_hmac(secret, name):
        message = f"{encoded({**header, 'alg': name})}.{encoded(admin)}"
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[name]
        return f"{message}.{encoded(hmac.new(secret, message.encode(), digest).digest())}"

    def by_stranger(head, body):
        message = f"{encoded(head)}.{encoded(body)}"
        both = utils.decode_dss_signature(own.sign(message.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{message}.{encoded(b''.join(number.to_bytes(32, 'big') for number in both))}"

    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    numbers = own.public_key().public_numbers()
    coordinates = {name: encoded(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
    inline = {"kty": "EC", "crv": "P-256", **coordinates}
    forgeries = {
        "none": f"{encoded({**header, 'alg': 'none'})}.{encoded(admin)}.",
        "none-signed": f"{encoded({**header, 'alg': 'none'})}.{encoded(admin)}.{signature}",
        "another-payload": f"{head}.{encoded(admin)}.{signature}",
        "later-end": f"{head}.{encoded({**claims, 'exp': claims['exp'] + 3600})}.{signature}",
        "no-signature": f"{head}.{body}.",
        "zeros": f"{head}.{body}.{encoded(bytes(64))}",
        "form-of-x509": f"{head}.{body}.{encoded(utils.encode_dss_signature(r, s))}",
        "cut": f"{head}.{body}.{encoded(raw[:63])}",
        "stranger": by_stranger(header, admin),
        "stranger-named": by_stranger({**header, "kid": "stranger"}, admin),
        "stranger-inline": by_stranger({**header, "jwk": inline}, admin),
        "stranger-url": by_stranger({**header, "jku": "https://evil.test/keys"}, admin),
        "hs256-pem": by_hmac(pem, "HS256"),
        "hs384-pem": by_hmac(pem, "HS384"),
        "hs512-pem": by_hmac(pem, "HS512"),
        "hs256-x": by_hmac(keys["keys"][0]["x"].encode(), "HS256"),
        "es384": f"{encoded({**header, 'alg': 'ES384'})}.{body}.{signature}",
        "rs256": f"{encoded({**header, 'alg': 'RS256'})}.{body}.{signature}",
        "wit": f"{encoded({**header, 'typ': 'wit+jwt'})}.{body}.{signature}",
    }
    client = jwt.PyJWKClient(url, ssl_context=ssl.create_default_context(cafile=cafile))
    for name, forged in forgeries.items():
        try:
            said = judged(forged, client, ["RS256", "ES256", "ES384"], claims["aud"][0], claims["iss"])["sub"]
        except Exception as error:
            said = type(error).__name__
        say(name=name, token=forged, pyjwt=said)


if __name__ == "__main__":
    {"verify": verify, "forge": forge}[sys.argv[1]](*sys.argv[2:])
