//! The pure half against the definition of RFC 6962, and against every change of a bit.

use std::{collections::BTreeMap, convert::Infallible};

use proptest::prelude::*;

use super::{
    frontier::Frontier,
    prove::{Prover, Tiles},
    *,
};

/// Hash of the tree, by the definition.
fn naive(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => TreeHash::of_nothing(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            TreeHash::of_node(naive(left), naive(right))
        }
    }
}

fn leaf(n: u64) -> TreeHash {
    TreeHash::of_leaf(&n.to_be_bytes())
}

/// A tree in memory.
#[derive(Debug, Default)]
struct Grown {
    frontier: Frontier,
    full: BTreeMap<TileId, Vec<TreeHash>>,
}

impl Grown {
    fn of(size: u64) -> Self {
        let mut grown = Self::default();
        (0..size).for_each(|n| grown.push(leaf(n)));
        grown
    }

    fn push(&mut self, leaf: TreeHash) {
        let full = &mut self.full;
        self.frontier.push(leaf, |id, hashes| assert!(full.insert(id, hashes).is_none()));
    }
}

impl Tiles for Grown {
    type Error = Infallible;

    fn tile(&self, id: TileId, width: usize) -> Result<Vec<TreeHash>, Infallible> {
        let partial =
            || self.frontier.partial().find(|(known, _)| *known == id).map(|(_, hashes)| hashes.to_vec());
        let hashes = self.full.get(&id).cloned().or_else(partial).unwrap();
        assert!(hashes.len() >= width);
        Ok(hashes)
    }
}

#[test]
fn vf1_hashes_are_those_of_rfc_6962() {
    // The roots that certificate transparency's own test data begins with.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(crate::leaf::hex(&TreeHash::of_nothing().0), empty);
    let one = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
    assert_eq!(crate::leaf::hex(&TreeHash::of_leaf(b"").0), one);
    let two = TreeHash::of_node(TreeHash::of_leaf(b""), TreeHash::of_leaf(&[0]));
    assert_eq!(crate::leaf::hex(&two.0), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
}

#[test]
fn vf1_the_frontier_has_the_root_of_the_definition_at_every_size() {
    let mut grown = Grown::default();
    let mut leaves = Vec::new();
    for n in 0..700 {
        assert_eq!(grown.frontier.root(), naive(&leaves), "{n}");
        grown.push(leaf(n));
        leaves.push(leaf(n));
    }
    let (whole, size) = (&grown, leaves.len() as u64);
    let loaded = Frontier::load(size, |id, width| whole.tile(id, width));
    assert_eq!(loaded, Ok(grown.frontier.clone()));
}

#[test]
fn vf3_every_inclusion_and_consistency_proof_of_small_trees_verifies() {
    let grown = Grown::of(300);
    let roots: Vec<_> = (0..=300).map(|size| naive(&(0..size).map(leaf).collect::<Vec<_>>())).collect();
    for size in 1..=300_u64 {
        let prover = Prover::new(&grown, size);
        let root = roots[size as usize];
        assert_eq!(prover.root(), Ok(root));
        for index in (0..size).step_by(if size < 40 { 1 } else { 7 }) {
            let path = prover.inclusion(index).unwrap();
            assert!(includes(leaf(index), index, &path, size, root), "{index} in {size}");
            assert!(!includes(leaf(index + 1), index, &path, size, root));
            assert!(!includes(leaf(index), index ^ 1, &path, size, root));
        }
        for old in (0..=size).step_by(if size < 40 { 1 } else { 7 }) {
            let path = prover.consistency(old).unwrap();
            assert!(extends((old, roots[old as usize]), (size, root), &path), "{old} to {size}");
            if old > 0 {
                let other = TreeHash::of_node(roots[old as usize], root);
                assert!(!extends((old, other), (size, root), &path));
                assert!(!extends((old, roots[old as usize]), (size, other), &path));
            }
        }
    }
}

#[test]
fn vf3_a_proof_with_any_bit_changed_is_refused() {
    let grown = Grown::of(200);
    let (size, root) = (200, grown.frontier.root());
    let prover = Prover::new(&grown, size);
    let (path, old) = (prover.inclusion(77).unwrap(), 150);
    let grew = prover.consistency(old).unwrap();
    let was = Grown::of(old).frontier.root();
    for bit in 0..path.len() * 256 {
        let mut path = path.clone();
        path[bit / 256].0[bit / 8 % 32] ^= 1 << (bit % 8);
        assert!(!includes(leaf(77), 77, &path, size, root));
    }
    for bit in 0..grew.len() * 256 {
        let mut grew = grew.clone();
        grew[bit / 256].0[bit / 8 % 32] ^= 1 << (bit % 8);
        assert!(!extends((old, was), (size, root), &grew));
    }
    for short in 0..path.len() {
        assert!(!includes(leaf(77), 77, &path[..short], size, root));
    }
    let long: Vec<_> = path.iter().copied().chain([root]).collect();
    assert!(!includes(leaf(77), 77, &long, size, root));
}

fn document(n: u64) -> (ProofDocument, VerifierKey) {
    let grown = Grown::of(n);
    let keys = LogKeys::from_seeds(&[[7; 32]]).unwrap();
    let checkpoint =
        Checkpoint { origin: "example.org/decisions/main".to_owned(), size: n, root: grown.frontier.root() };
    let key = VerifierKey::new(&checkpoint.origin, keys.public_keys()[0]);
    let (leaf, path) = (3_u64.to_be_bytes().to_vec(), Prover::new(&grown, n).inclusion(3).unwrap());
    (ProofDocument { leaf, index: 3, path, checkpoint: checkpoint.sign(&keys) }, key)
}

#[test]
fn vf3_a_proof_file_verifies_with_the_key_alone_and_not_with_any_bit_changed() {
    let (document, key) = document(9);
    let text = document.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra AAAAAAAAAAM=\nindex 3\n"));
    let read = ProofDocument::parse(text.as_bytes()).unwrap();
    assert_eq!(read, document);
    assert_eq!(read.verify(std::slice::from_ref(&key)).unwrap().size, 9);
    assert_eq!(
        read.verify(&[VerifierKey::new("example.org/decisions/main", [1; 32])]),
        Err(ProofError::Checkpoint(NoteError::Unsigned))
    );
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let outcome = ProofDocument::parse(&bytes).and_then(|read| read.verify(std::slice::from_ref(&key)));
        assert!(outcome.is_err(), "bit {bit}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn vf2_a_checkpoint_is_a_signed_note_and_every_key_signs_it() {
    let keys = LogKeys::from_seeds(&[[1; 32], [2; 32]]).unwrap();
    let checkpoint = Checkpoint { origin: "example.org/decisions/main".to_owned(), size: 1, root: leaf(0) };
    let note = checkpoint.sign(&keys);
    assert_eq!(note.lines().filter(|line| line.starts_with("— example.org/decisions/main ")).count(), 2);
    for key in keys.public_keys() {
        let key = VerifierKey::new(&checkpoint.origin, key);
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert_eq!(Checkpoint::open(note.as_bytes(), &[key]), Ok(checkpoint.clone()));
    }
    let elsewhere = VerifierKey::new("example.org/decisions/other", keys.public_keys()[0]);
    assert_eq!(Checkpoint::open(note.as_bytes(), &[elsewhere]), Err(NoteError::Unsigned));
    let bad = ["", "a+b", "example.org/x+00000000+AQEB", "no key"];
    bad.iter().for_each(|bad| assert_eq!(bad.parse::<VerifierKey>(), Err(NoteError::NotAKey)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn vf3_proofs_of_large_trees_verify(size in 1..20_000_u64, index in any::<prop::sample::Index>(), old in any::<prop::sample::Index>()) {
        let grown = Grown::of(size);
        let root = grown.frontier.root();
        let prover = Prover::new(&grown, size);
        let index = index.index(size as usize) as u64;
        prop_assert!(includes(leaf(index), index, &prover.inclusion(index).unwrap(), size, root));
        let old = old.index(size as usize) as u64 + 1;
        let was = Prover::new(&grown, old).root().unwrap();
        prop_assert_eq!(was, Grown::of(old).frontier.root());
        prop_assert!(extends((old, was), (size, root), &prover.consistency(old).unwrap()));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let (_, key) = document(4);
        prop_assert!(ProofDocument::parse(&bytes).is_err());
        prop_assert!(Checkpoint::open(&bytes, &[key]).is_err());
    }
}
