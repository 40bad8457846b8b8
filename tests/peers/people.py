"""An issuer of OpenID Connect, by PyJWT: keys and the tokens of people.

  people.py key DIR KID             a new RSA key; prints its JWK
  people.py token DIR KID CLAIMS    prints a token with those claims, issued now, for five minutes unless they say otherwise
"""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

what, directory, kid = sys.argv[1:4]
path = f"{directory}/{kid}.pem"

if what == "key":
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with open(path, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    jwk = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    print(json.dumps({"jwk": {**jwk, "kid": kid, "use": "sig", "alg": "RS256"}}))
else:
    now = int(time.time())
    claims = {"iat": now, "exp": now + 300, **json.loads(sys.argv[4])}
    with open(path, "rb") as file:
        print(json.dumps({"token": jwt.encode(claims, file.read(), "RS256", {"kid": kid, "typ": "at+jwt"})}))
