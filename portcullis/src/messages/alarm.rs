//! Alarms of the decision ledger as messages: code, severity, and what to look at next.

use policies_decisions::Alarm;

use super::Message;

/// An alarm, as `status` and `check` show it.
pub(crate) fn alarm(alarm: &Alarm) -> Message {
    let text = format!("decision ledger: {alarm}");
    match alarm {
        Alarm::Silent { .. } => Message::error("PC5010", text).next("portcullis decisions streams"),
        Alarm::Lost(_) => Message::warning("PC5002", text).next("portcullis decisions gaps"),
        Alarm::Unsigned(_) => Message::error("PC5011", text).next("portcullis decisions checkpoint"),
        Alarm::Damaged(_) => Message::error("PC6021", text).next("portcullis decisions verify"),
        Alarm::SelfCheck(_) => Message::error("PC5012", text).next("portcullis decisions verify"),
        Alarm::OverHeld => Message::warning("PC5020", text).help("release holds"),
    }
}

#[cfg(test)]
mod tests {
    use base_ports::UnixTime;
    use policies_decisions::Boot;

    use super::*;

    #[test]
    fn every_alarm_says_what_to_do() {
        let silent = Alarm::Silent { boot: Boot::default(), since: UnixTime::from_secs(0) };
        for it in [
            silent,
            Alarm::Lost(2),
            Alarm::Unsigned(40),
            Alarm::Damaged(1),
            Alarm::SelfCheck("x".to_owned()),
            Alarm::OverHeld,
        ] {
            let message = alarm(&it);
            assert!(message.next.is_some() || message.help.is_some(), "{message}");
            assert!(message.text.starts_with("decision ledger: "));
        }
    }
}
