//! Cookies of a call (RFC 6265 4.2.1).

/// The values of a cookie in one line of the field `cookie`.
pub(crate) fn values<'a>(line: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    line.split(|byte| *byte == b';').filter_map(move |pair| {
        let (known, value) = pair.trim_ascii().split_at_checked(name.len())?;
        (known == name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lb_09_a_cookie_is_found_among_others_by_its_whole_name() {
        let line = b"a=1; session=two;sessionx=3 ; empty=; a=b=c";
        for (name, meant) in [
            ("a", vec!["1", "b=c"]),
            ("session", vec!["two"]),
            ("sess", vec![]),
            ("empty", vec![""]),
            ("b", vec![]),
        ] {
            let seen: Vec<&[u8]> = values(line, name).collect();
            assert_eq!(seen, meant.iter().map(|value| value.as_bytes()).collect::<Vec<_>>(), "{name}");
        }
    }
}
