//! The architecture as a test: directions, owners, sources and requirement ids.
//!
//! Each rule is a function from a read workspace to the sentences that say what breaks it, and has a made-up workspace
//! beside it that breaks it, so that every rule is shown to be able to fail. Reads `cargo metadata` and the sources;
//! builds nothing.

mod graph;
mod ids;
mod layers;
mod metrics;
mod owners;
mod reference;
mod sbom;
mod sources;
mod threats;
mod workspace;

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use workspace::Workspace;

/// A rule says, in one sentence for each, what breaks it.
type Rule = fn(&Workspace) -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("a_crate_depends_only_on_lower_layers", layers::directions),
    ("the_never_edges_of_the_design_do_not_exist", layers::never_edges),
    ("bn_04_a_named_package_has_only_its_owners", owners::owners),
    ("one_tls_stack_one_provider_no_git_source", graph::forbidden),
    ("core_packages_exist_in_one_version", graph::duplicates),
    ("the_binary_stays_within_its_crate_budget", graph::budget),
    ("every_crate_takes_the_lints_of_the_workspace", sources::lints),
    ("every_source_file_says_what_it_is_for", sources::module_docs),
    ("no_source_file_is_longer_than_450_lines", sources::lengths),
    ("bn_04_rustls_stays_in_one_module_of_ca_identity", sources::rustls_room),
    ("bn_01_ca_identity_has_no_io_and_no_clock", sources::identity_is_pure),
    ("bn_05_authority_and_agent_take_no_time_and_no_chance_of_their_own", sources::ca_takes_ports),
    ("is_09_certificates_are_signed_where_no_worker_comes", sources::signing_room),
    ("al_01_network_listeners_are_made_and_accepted_on_in_one_place", sources::listening_room),
    ("tl_04_the_certificates_of_a_peer_are_read_once", sources::identity_is_made_once),
    ("the_reference_of_metrics_is_what_the_sources_register", metrics::page),
    ("the_threat_model_names_the_tests_that_show_it", threats::page),
    ("ob7_alerts_and_dashboards_name_metrics_that_exist", metrics::users),
    ("su_05_the_list_of_what_the_binary_is_made_of_is_current", sbom::current),
    ("su_05_what_the_binary_is_made_of_is_in_the_lock_file", sbom::packages),
    ("ids_marked_done_have_a_test", ids::done_without_test),
];

fn main() {
    let arguments = Arguments::from_args();
    let workspace = Arc::new(Workspace::read());
    let mut trials: Vec<Trial> =
        RULES.iter().map(|(name, rule)| holds(name, *rule, Arc::clone(&workspace))).collect();
    trials.extend(layers::broken().into_iter().chain(owners::broken()).chain(graph::broken()));
    trials.extend(sources::broken().into_iter().chain(ids::broken()).chain(metrics::broken()));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial of one rule over the real workspace.
fn holds(name: &str, rule: Rule, workspace: Arc<Result<Workspace, Failed>>) -> Trial {
    Trial::test(name, move || {
        let found = rule(workspace.as_ref().as_ref().map_err(Clone::clone)?);
        if found.is_empty() { Ok(()) } else { Err(Failed::from(found.join("\n"))) }
    })
}

/// A trial that a rule speaks up about a made-up workspace, naming each of `words`.
fn breaks(
    name: &'static str,
    rule: impl FnOnce() -> Vec<String> + Send + 'static,
    words: &'static [&'static str],
) -> Trial {
    Trial::test(name, move || {
        let found = rule();
        let silent = words.iter().find(|word| !found.iter().any(|sentence| sentence.contains(**word)));
        match silent {
            Some(word) => Err(Failed::from(format!("nothing was said about `{word}`, only: {found:?}"))),
            None if found.len() != words.len() => {
                Err(Failed::from(format!("more was said than expected: {found:?}")))
            }
            None => Ok(()),
        }
    })
}
