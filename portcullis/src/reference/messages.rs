//! Every message code.

use super::{cell, hold};

const HEAD: &str = "# Messages\n\nEvery error and warning has a code; `portcullis code PC0103` tells what stands here. Codes are never reused and never renamed.\n\n| code | title | meaning |\n|---|---|---|\n";

#[test]
fn the_reference_of_messages_has_every_code() {
    let rows = crate::messages::codes()
        .map(|code| format!("| {} | {} | {} |\n", code.code, cell(code.title), cell(code.text)));
    hold("messages.md", &rows.fold(HEAD.to_owned(), |page, row| page + &row));
}
