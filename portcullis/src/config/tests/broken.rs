//! Broken configurations, one fault each: the code, the place and the way out.

mod routes;

use std::fmt::Write;

use super::{places, read, with};

/// Line, what it begins with, its replacement; the code, where it is reported, and a part of what is shown.
type Broken = (usize, &'static str, &'static str, &'static str, (usize, usize), &'static str);

const BROKEN: &[Broken] = &[
    // Not TOML.
    (4, "[ca]", "[ca", "PC0101", (4, 4), "not valid TOML"),
    (2, "trust_domain", "trust_domain = example.org", "PC0101", (2, 16), "not valid TOML"),
    (3, "data_dir", "data_dir = \"./data\"\ndata_dir = \"./data\"", "PC0101", (4, 1), "duplicate key"),
    (3, "data_dir", "data_dir = \"./data", "PC0101", (3, 19), "not valid TOML"),
    // Missing.
    (1, "version", "", "PC0102", (1, 1), "example: version = 1"),
    (2, "trust_domain", "", "PC0102", (1, 1), "example: trust_domain = \"example.org\""),
    (6, "spiffe_id", "", "PC0102", (5, 1), "next: portcullis config explain ca.entry.spiffe_id"),
    (7, "selectors", "", "PC0102", (5, 1), "`selectors` is missing in [[ca.entry]]"),
    (12, "id", "", "PC0102", (11, 1), "`id` is missing in [enforcer]"),
    (15, "bind", "", "PC0102", (13, 1), "example: bind = [\"tcp://0.0.0.0:9443\"]"),
    (23, "to", "", "PC0102", (19, 1), "`to` is missing in [[enforcer.route]]"),
    // Unknown names.
    (3, "data_dir", "data_dri = \"./data\"", "PC0103", (3, 1), "did you mean `data_dir`?"),
    (7, "selectors", "selector = [\"unix:uid:1000\"]", "PC0103", (7, 1), "did you mean `selectors`?"),
    (8, "[agent]", "[agnet]", "PC0103", (8, 2), "did you mean `agent`?"),
    (
        29,
        "[decisions]",
        "[banana]",
        "PC0103",
        (29, 2),
        "help: keys are version, trust_domain, data_dir, ca, agent",
    ),
    (
        22,
        "match",
        "match = { grpc = \"shop.Orders/*\", pth = \"/\" }",
        "PC0103",
        (22, 35),
        "did you mean `path`?",
    ),
    (30, "[admin]", "[admin]\nliste = []", "PC0103", (31, 1), "next: portcullis config explain admin"),
    // Wrong values.
    (1, "version", "version = 2", "PC0104", (1, 11), "2 is not a whole number from 1 to 1"),
    (1, "version", "version = \"1\"", "PC0104", (1, 11), "not string"),
    (
        2,
        "trust_domain",
        "trust_domain = \"Example.org\"",
        "PC0104",
        (2, 16),
        "`Example.org` is no trust domain",
    ),
    (
        2,
        "trust_domain",
        "trust_domain = true",
        "PC0104",
        (2, 16),
        "a trust domain such as \"example.org\", not boolean",
    ),
    // Policies of a publisher.
    (10, "dir", "signer = \"x\"", "PC0105", (10, 10), "`follow` names none"),
    (10, "dir", "follow = \"unix:///run/p/admin.sock\"", "PC0102", (10, 10), "portcullis status prints it"),
    (10, "dir", "follow = \"https://127.0.0.1:8443\"", "PC0132", (10, 10), "[join] in place of [policies]"),
    (10, "dir", "follow = \"/run/p/admin.sock\"", "PC0104", (10, 10), "unix:///run/p/admin.sock"),
    (
        10,
        "dir",
        "follow = \"unix:///run/p/admin.sock\"\nsigner = \"c2VjcmV0\"",
        "PC0104",
        (11, 10),
        "is no key that signs policies",
    ),
    (
        10,
        "dir",
        "follow = \"unix:///run/p/admin.sock\"\nsigner = \"other.test/policies+f8176b24+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\"",
        "PC0104",
        (11, 10),
        "this trust domain needs `example.org/policies`",
    ),
    (
        10,
        "dir",
        "dir = \"./policies\"\nfollow = \"unix:///run/p/admin.sock\"\nsigner = \"example.org/policies+8ec5fdd4+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\"",
        "PC0105",
        (11, 10),
        "exclude each other",
    ),
    (4, "[ca]", "[ca]\nsvid_ttl = 3600", "PC0104", (5, 12), "3600 has no unit; write \"3600s\""),
    (4, "[ca]", "[ca]\nsvid_ttl = \"3600\"", "PC0104", (5, 12), "write \"3600s\" for seconds"),
    (4, "[ca]", "[ca]\nsvid_ttl = \"1 hour\"", "PC0104", (5, 12), "is no unit of time; use ms, s, m, h or d"),
    (4, "[ca]", "[ca]\nsvid_ttl = \"1m\"", "PC0104", (5, 12), "between 5m and 28h"),
    (4, "[ca]", "[ca]\nsvid_ttl = \"2d\"", "PC0104", (5, 12), "between 5m and 28h"),
    (4, "[ca]", "[ca]\njwt_ttl = \"59s\"", "PC0104", (5, 11), "between 1m and 28h"),
    (4, "[ca]", "[ca]\nlisten = \"http://127.0.0.1:8443\"", "PC0104", (5, 10), "use https://"),
    (4, "[ca]", "ca = 1", "PC0101", (5, 3), "cannot extend value of type integer"),
    (8, "[agent]", "[[agent]]", "PC0104", (8, 1), "`agent` is a table, not array"),
    (5, "[[ca.entry]]", "[ca.entry]", "PC0104", (5, 1), "`ca.entry` is an array of tables"),
    (6, "spiffe_id", "spiffe_id = \"spiffe://example.org/\"", "PC0104", (6, 13), "the path ends with `/`"),
    (6, "spiffe_id", "spiffe_id = \"https://example.org/web\"", "PC0104", (6, 13), "starts with `spiffe://`"),
    (6, "spiffe_id", "spiffe_id = \"spiffe://example.com/web\"", "PC0104", (6, 13), "`example.org`"),
    (6, "spiffe_id", "spiffe_id = \"spiffe://example.org\"", "PC0104", (6, 13), "needs a path"),
    (6, "spiffe_id", "spiffe_id = \"spiffe://example.org/spire/x\"", "PC0104", (6, 13), "reserved"),
    (
        6,
        "spiffe_id",
        "spiffe_id = \"spiffe://example.org/web\"\nparent = \"spiffe://other.org/agent\"",
        "PC0104",
        (7, 10),
        "`spiffe://other.org/agent`",
    ),
    (7, "selectors", "selectors = []", "PC0104", (7, 13), "at least one selector"),
    (
        7,
        "selectors",
        "selectors = [\"unix:uid:1000\", \"unx:uid:1\"]",
        "PC0104",
        (7, 31),
        "did you mean `unix`?",
    ),
    (7, "selectors", "selectors = [\"unix:usr:web\"]", "PC0104", (7, 14), "did you mean `unix:user`?"),
    (7, "selectors", "selectors = \"uid\"", "PC0104", (7, 13), "not of the form type:key:value"),
    (
        7,
        "selectors",
        "selectors = [\"unix:uid:1000\"]\nx509_ttl = \"10s\"",
        "PC0104",
        (8, 12),
        "shorter than 5m",
    ),
    (
        7,
        "selectors",
        "selectors = [\"unix:uid:1000\"]\ndns_names = [\"Web.Local\"]",
        "PC0104",
        (8, 13),
        "`Web.Local`",
    ),
    (
        7,
        "selectors",
        "selectors = [\"unix:uid:1000\"]\nnamespace = \"a b\"",
        "PC0104",
        (8, 13),
        "`a b` in namespace",
    ),
    (8, "[agent]", "[agent]\nsocket = \"/run/x.sock\"", "PC0104", (9, 10), "write unix:///run/x.sock"),
    (8, "[agent]", "[agent]\nsocket_mode = \"rwx\"", "PC0104", (9, 15), "write \"0770\""),
    (8, "[agent]", "[agent]\nsocket_mode = \"4777\"", "PC0104", (9, 15), "`4777` is no file mode"),
    (
        12,
        "id",
        "id = \"spiffe://elsewhere.org/gateway\"",
        "PC0104",
        (12, 6),
        "`spiffe://elsewhere.org/gateway`",
    ),
    (
        12,
        "id",
        "id = \"spiffe://example.org/gateway\"\nmode = \"obsrve\"",
        "PC0104",
        (13, 8),
        "did you mean `observe`?",
    ),
    (12, "id", "id = \"spiffe://example.org/gateway\"\nworkers = 1000", "PC0104", (13, 11), "from 0 to 256"),
    (
        12,
        "id",
        "id = \"spiffe://example.org/gateway\"\ndns_names = [\"*.example.org\"]",
        "PC0104",
        (13, 13),
        "without wildcard",
    ),
    (14, "name", "name = 5", "PC0104", (14, 8), "`enforcer.listener.name` is a text, not integer"),
    (15, "bind", "bind = [\"127.0.0.1:9443\"]", "PC0104", (15, 9), "write tcp://127.0.0.1:9443"),
    (15, "bind", "bind = [\"tcp://example.org:9443\"]", "PC0104", (15, 9), "names are not resolved here"),
    (15, "bind", "bind = []", "PC0104", (15, 8), "names no address"),
    (
        15,
        "bind",
        "bind = [\"tcp://127.0.0.1:9443\"]\nclient_auth = \"maybe\"",
        "PC0104",
        (16, 15),
        "one of required, optional, none",
    ),
    (
        15,
        "bind",
        "bind = [\"tcp://127.0.0.1:9443\"]\nmax_connections = 0",
        "PC0104",
        (16, 19),
        "from 1 to 1000000",
    ),
    (
        18,
        "methods",
        "methods = [\"shop.Orders.Get\"]",
        "PC0104",
        (18, 11),
        "`shop.Orders.Get` is not `pkg.Service/Method`",
    ),
    (22, "match", "match = { grpc = \"shop.Orders\" }", "PC0104", (22, 18), "package.Service/*"),
    (
        22,
        "match",
        "match = { grpc = \"shop.Orders/*\", path = \"/\" }",
        "PC0104",
        (22, 42),
        "exclude each other",
    ),
    (23, "to", "to = [\"http://127.0.0.1:50051\"]", "PC0104", (23, 6), "write h2c:// instead of http://"),
    (23, "to", "to = []", "PC0104", (23, 6), "names no endpoint"),
    (27, "match", "match = { path = \"api\" }", "PC0104", (27, 18), "`api` does not begin with /"),
    (27, "match", "match = { path = \"/a/../b\" }", "PC0104", (27, 18), "not canonical"),
    (27, "match", "match = { path = \"/\", host = \"a:80\" }", "PC0104", (27, 30), "`a:80`"),
    (27, "match", "match = { grpc = \"shop.Orders/*\" }", "PC0104", (28, 6), "h2c://"),
    (
        28,
        "to",
        "to = [\"http://127.0.0.1:8000\"]\n[[enforcer.route]]\nname = \"twin\"\nservice = \"orders\"\nmatch = { path = \"/\" }\nto = [\"http://127.0.0.1:1\"]",
        "PC0104",
        (32, 9),
        "`web` and `twin` match the same calls",
    ),
    (29, "[decisions]", "[decisions]\ncommit_interval = 50", "PC0104", (30, 19), "50 has no unit"),
    (29, "[decisions]", "[decisions]\nkeep = { days = 0 }", "PC0104", (30, 17), "from 1 to 36500"),
    (29, "[decisions]", "[decisions]\nkeep = { days = 36501 }", "PC0104", (30, 17), "from 1 to 36500"),
    (
        29,
        "[decisions]",
        "[decisions]\nkeep = { size = \"511MiB\" }",
        "PC0104",
        (30, 17),
        "511MiB is less than 512MiB",
    ),
    (
        29,
        "[decisions]",
        "[decisions]\ndrop = [\"trace\", \"request.querry\"]",
        "PC0104",
        (30, 8),
        "did you mean `request.query`?",
    ),
    (
        3,
        "data_dir",
        "data_dir = \"/srv/a-very-long-name/a-very-long-name/a-very-long-name/a-very-long-name/a-very-long-name/xxxxxxx\"",
        "PC0104",
        (3, 12),
        "the kernel takes 107",
    ),
    (
        8,
        "[agent]",
        "[agent]\nsocket = \"unix:///srv/a-very-long-name/a-very-long-name/a-very-long-name/a-very-long-name/a-very-long-name/xxxxxxxxxxxxxxxxxx\"",
        "PC0104",
        (9, 10),
        "has 108 bytes",
    ),
    // References and repetitions.
    (4, "[ca]", "[x]", "PC0103", (4, 2), "unknown key `x` in the file"),
    (21, "service", "service = \"order\"", "PC0105", (21, 11), "did you mean `orders`?"),
    (
        21,
        "service",
        "service = \"orders\"\nlistener = \"private\"",
        "PC0105",
        (22, 12),
        "help: listeners are public",
    ),
    (25, "name", "name = \"rpc\"", "PC0106", (25, 8), "help: the first one is in line 20"),
    (
        15,
        "bind",
        "bind = [\"tcp://127.0.0.1:9443\"]\n[[enforcer.listener]]\nname = \"second\"\nbind = [\"tcp://127.0.0.1:9443\"]",
        "PC0106",
        (18, 8),
        "`tcp://127.0.0.1:9443` is bound twice",
    ),
    (
        15,
        "bind",
        "bind = [\"tcp://127.0.0.1:9443\"]\n[[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:9444\"]",
        "PC0106",
        (17, 8),
        "listener `public` is defined twice",
    ),
    (
        18,
        "methods",
        "[[enforcer.service]]\nname = \"orders\"",
        "PC0106",
        (19, 8),
        "service `orders` is defined twice",
    ),
    // Local users.
    (
        31,
        "listen",
        "[[admin.user]]\nuid = 1001\nroles = [\"approver\"]",
        "PC0108",
        (32, 7),
        "user 1001 cannot reach the admin socket `/etc/portcullis/data/admin.sock` (mode 0700)",
    ),
    (
        31,
        "listen",
        "socket = \"unix:///run/portcullis/admin.sock\"\n[[admin.user]]\nuid = 1001\nroles = [\"approver\"]",
        "PC0108",
        (33, 7),
        "(mode 0700)",
    ),
    (
        31,
        "listen",
        "socket_mode = \"0777\"\n[[admin.user]]\nuid = 1001\nroles = [\"approver\"]",
        "PC0108",
        (33, 7),
        "help: the data directory is private",
    ),
    (31, "listen", "[[admin.user]]\nuid = 0\nroles = []", "PC0104", (33, 9), "names no role"),
    (
        31,
        "listen",
        "[[admin.user]]\nuid = 0\nroles = [\"aprover\"]",
        "PC0104",
        (33, 10),
        "did you mean `approver`?",
    ),
    (
        31,
        "listen",
        "[[admin.user]]\nuid = -1\nroles = [\"viewer\"]",
        "PC0104",
        (32, 7),
        "from 0 to 4294967294",
    ),
    (31, "listen", "[[admin.user]]\nroles = [\"viewer\"]", "PC0102", (31, 1), "example: uid = 1001"),
    (
        31,
        "listen",
        "[[admin.user]]\nuid = 0\nroles = [\"viewer\"]\n[[admin.user]]\nuid = 0\nroles = [\"author\"]",
        "PC0106",
        (35, 7),
        "user 0 is defined twice",
    ),
    // What this release or this listener does not do.
    (
        31,
        "listen",
        "listen = [\"http://0.0.0.0:8080\"]",
        "PC0131",
        (31, 10),
        "help: it has no client certificates",
    ),
];

#[test]
fn cf3_cf4_broken_files_are_refused_at_the_right_place_with_a_way_out() {
    let mut wrong = String::new();
    for (line, begins, replacement, code, at, hint) in BROKEN.iter().chain(routes::ROUTES) {
        let faults = match read(&with(*line, begins, replacement), &[]) {
            Ok(_) => {
                writeln!(wrong, "`{replacement}` is accepted").unwrap();
                continue;
            }
            Err(faults) => faults,
        };
        let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let expected = format!("{code} {}:{}", at.0, at.1);
        if places(&faults).first() != Some(&expected) || !shown.iter().any(|shown| shown.contains(hint)) {
            writeln!(
                wrong,
                "`{replacement}`: wanted {expected} with `{hint}`, shown:\n{}\n",
                shown.join("\n")
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn one_fault_is_one_message() {
    for (line, begins, replacement, code, at, _) in BROKEN.iter().chain(routes::ROUTES) {
        // A section of another name leaves other sections without what they need.
        if replacement.contains("[x]") {
            continue;
        }
        let faults = read(&with(*line, begins, replacement), &[]).unwrap_err();
        assert_eq!(faults.len(), 1, "`{replacement}` ({code} {at:?}): {:?}", places(&faults));
    }
}
