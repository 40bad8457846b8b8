//! The words that conditions compare with and facts are made of. One pool, so that they meet.

use crate::support::dice::Dice;

/// Texts of all kinds; `*`, quotes, backslashes and non-ASCII are what pattern matching trips over.
pub(crate) const TEXTS: [&str; 30] = [
    "",
    "a",
    "b",
    "ab",
    "aab",
    "aba",
    "acme",
    "web",
    "/web",
    "/api",
    "/batch/nightly",
    "example.org",
    "shop",
    "shop.Orders",
    "Get",
    "GET",
    "POST",
    "public",
    "admin",
    "x*y",
    "*",
    "a b",
    "é",
    "日本",
    "\"q\"",
    "back\\slash",
    "/v1/orders/7",
    "7",
    "unix",
    "blue",
];

pub(crate) fn text(dice: &mut Dice) -> &'static str {
    TEXTS[dice.below(TEXTS.len())]
}

/// As Cedar writes it inside quotes.
pub(crate) fn escaped(dice: &mut Dice) -> String {
    text(dice).replace('\\', "\\\\").replace('"', "\\\"")
}

pub(crate) fn quoted(dice: &mut Dice) -> String {
    format!("\"{}\"", escaped(dice))
}

pub(crate) fn long(dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => extreme(dice).to_owned(),
        1 => dice.below(2_000).to_string(),
        _ => (dice.below(18) as i64 - 3).to_string(),
    }
}

/// What overflows soon.
pub(crate) fn extreme(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 6] = [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775800",
        "-9223372036854775800",
        "4611686018427387904",
        "3037000500",
    ];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn network(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 12] = [
        "10.0.0.0/8",
        "10.1.2.3",
        "10.1.2.3/32",
        "10.1.0.0/16",
        "0.0.0.0/0",
        "127.0.0.1",
        "127.0.0.0/8",
        "192.0.2.1",
        "2001:db8::/32",
        "::1",
        "ff02::1",
        "::/0",
    ];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn address(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 8] =
        ["10.1.2.3", "10.200.0.1", "127.0.0.1", "192.0.2.1", "224.0.0.1", "2001:db8::7", "::1", "ff02::1"];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn decimal(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 8] =
        ["0.0", "1.0", "-1.5", "1.0000", "0.0001", "922337203685477.5807", "-922337203685477.5808", "12.34"];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn moment(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 8] = [
        "2026-11-22",
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:00.001Z",
        "2026-11-22T14:00:00+0200",
        "1970-01-01",
        "1969-12-31",
        "9999-12-31T23:59:59Z",
        "0000-01-01",
    ];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn span(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 9] = [
        "0ms",
        "1ms",
        "-1ms",
        "1h",
        "1d2h3m4s5ms",
        "-7d",
        "9223372036854775807ms",
        "-9223372036854775808ms",
        "106751991167d",
    ];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn protocol(dice: &mut Dice) -> &'static str {
    const ALL: [&str; 5] = [
        "Protocol::\"h1\"",
        "Protocol::\"h2\"",
        "Protocol::\"h3\"",
        "Protocol::\"grpc\"",
        "Protocol::\"tcp\"",
    ];
    ALL[dice.below(ALL.len())]
}

pub(crate) fn protocols(dice: &mut Dice) -> String {
    format!("{}, {}", protocol(dice), protocol(dice))
}
