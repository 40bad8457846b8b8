"""A workload that uses the py-spiffe library. Prints one JSON object per line.

  spiffe_client.py fetch SOCKET           the SVIDs and the bundles, chains verified
  spiffe_client.py watch SOCKET SECONDS   every update, then the error that ended the stream
  spiffe_client.py tokens SOCKET AUDIENCE a JWT-SVID of each identity, judged here by the bundles and by the agent
  spiffe_client.py judge SOCKET AUDIENCE FILE   what the agent says of each `NAME TOKEN` line
"""

import json
import sys
import threading

from spiffe import JwtSvid, SpiffeId, WorkloadApiClient


def say(**event):
    print(json.dumps(event), flush=True)


def verified(svid, authorities):
    """Whether each certificate was issued by the next one, and the last one by an authority of the bundle."""
    chain = list(svid.cert_chain)
    for subject, issuer in zip(chain, chain[1:]):
        subject.verify_directly_issued_by(issuer)
    for authority in authorities:
        try:
            chain[-1].verify_directly_issued_by(authority)
            return True
        except Exception:
            continue
    return False


def about(svid, bundles):
    bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    public = svid.private_key.public_key()
    return {
        "id": str(svid.spiffe_id),
        "serial": format(svid.leaf.serial_number, "x"),
        "chain": len(svid.cert_chain),
        "verified": bundle is not None and verified(svid, bundle.x509_authorities),
        "key_fits": public.public_numbers() == svid.leaf.public_key().public_numbers(),
    }


def fetch(socket):
    client = WorkloadApiClient(socket, default_timeout=10)
    context = client.fetch_x509_context()
    alone = client.fetch_x509_bundles()
    domain = context.default_svid.spiffe_id.trust_domain
    one, other = (bundles.get_bundle_for_trust_domain(domain) for bundles in (alone, context.x509_bundle_set))
    same = one.x509_authorities == other.x509_authorities
    say(svids=[about(svid, context.x509_bundle_set) for svid in context.x509_svids], same_bundle=same)


def watch(socket, seconds):
    client = WorkloadApiClient(socket)
    ended = threading.Event()

    def updated(context):
        say(svids=[about(svid, context.x509_bundle_set) for svid in context.x509_svids])

    def failed(error):
        say(error=str(error))
        ended.set()

    client.stream_x509_contexts(updated, failed, retry_connect=False)
    ended.wait(float(seconds))


def tokens(socket, audience):
    client = WorkloadApiClient(socket, default_timeout=10)
    bundles = client.fetch_jwt_bundles()
    for svid in client.fetch_jwt_svids({audience}):
        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        here = JwtSvid.parse_and_validate(svid.token, bundle, {audience})
        there = client.validate_jwt_svid(svid.token, audience)
        say(
            id=str(here.spiffe_id),
            agrees=there.spiffe_id == here.spiffe_id,
            audience=sorted(here.audience),
            expiry=here.expiry,
            keys=sorted(bundle.jwt_authorities),
            token=svid.token,
        )
    for asked in ["spiffe://example.org/nobody", "spiffe://other.org/web"]:
        try:
            client.fetch_jwt_svid({audience}, SpiffeId(asked))
            say(foreign=asked, error=None)
        except Exception as error:
            say(foreign=asked, error=str(error))


def judge(socket, audience, file):
    client = WorkloadApiClient(socket, default_timeout=10)
    for line in open(file):
        name, token = line.rstrip("\n").split(" ", 1)
        try:
            say(name=name, id=str(client.validate_jwt_svid(token, audience).spiffe_id))
        except Exception as error:
            say(name=name, error=str(error))


if __name__ == "__main__":
    commands = {"fetch": fetch, "watch": watch, "tokens": tokens, "judge": judge}
    commands[sys.argv[1]](*sys.argv[2:])
