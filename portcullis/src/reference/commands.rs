//! Every command with its options.

use clap::Command;

use super::{cell, hold};

const HEAD: &str = "# Commands\n\nEvery command of `portcullis`, as `--help` tells it. All take `-o json` and `-o ndjson`, and the options in the first table.\n";

fn page() -> String {
    let mut tree = crate::cli::tree();
    tree.build();
    let mut page = HEAD.to_owned();
    options(&mut page, &tree, true);
    walk(&mut page, &tree, "portcullis");
    page
}

fn walk(page: &mut String, command: &Command, name: &str) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        let name = format!("{name} {}", below.get_name());
        page.push_str(&format!("\n## {name}\n\n{}.\n", text(below.get_about())));
        if !below.has_subcommands() {
            let usage = below.clone().render_usage().to_string();
            page.push_str(&format!("\n    {}\n", cell(&usage.replace("Usage: ", ""))));
            options(page, below, false);
            let help = below.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{name} has no example");
            page.push_str(&format!("\n```\n{}\n```\n", help.trim_end()));
        }
        walk(page, below, &name);
    }
}

/// A table of those that every command takes, or of the others.
fn options(page: &mut String, command: &Command, is_global: bool) {
    let arguments = command.get_arguments().filter(|argument| {
        !argument.is_hide_set()
            && argument.is_global_set() == is_global
            && !["help", "version"].contains(&argument.get_id().as_str())
    });
    let rows: Vec<_> = arguments
        .map(|argument| {
            let defaults: Vec<_> =
                argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            let default = if defaults.is_empty()
                || argument.get_num_args().is_some_and(|range| !range.takes_values())
            {
                String::new()
            } else {
                format!(" Default: `{}`.", defaults.join(" "))
            };
            let values: Vec<_> = argument
                .get_possible_values()
                .iter()
                .filter(|value| !value.is_hide_set() && argument.get_action().takes_values())
                .map(|value| format!("`{}`", value.get_name()))
                .collect();
            let values =
                if values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) };
            let said = cell(&text(argument.get_help()));
            format!("| `{}` | {said}.{values}{default} |\n", cell(&argument.to_string()))
        })
        .collect();
    if !rows.is_empty() {
        page.push_str("\n| option | meaning |\n|---|---|\n");
        page.extend(rows);
    }
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default().trim_end_matches('.').to_owned()
}

#[test]
fn the_reference_of_commands_has_every_command() {
    hold("commands.md", &page());
}
