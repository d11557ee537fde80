//! Addresses as functions, inlined ones too, and what is done in each.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use addr2line::Loader;
use anyhow::{Result, anyhow};

use super::trace::Walk;

/// What an address outside the kernel is called.
const OUTSIDE: &str = "outside the kernel";

/// The kernel's debug information, with what was asked already.
pub struct Symbols {
    loader: Loader,
    known: RefCell<HashMap<u64, Vec<Rc<str>>>>,
}

impl Symbols {
    /// Reads it.
    pub fn load(kernel: &Path) -> Result<Symbols> {
        let loader = Loader::new(kernel).map_err(|error| anyhow!("{kernel:?}: {error}"))?;
        Ok(Symbols { loader, known: RefCell::default() })
    }

    /// The functions that an instruction belongs to: the one that was compiled, then those inlined there.
    fn functions(&self, address: u64) -> Vec<Rc<str>> {
        self.known.borrow_mut().entry(address).or_insert_with(|| self.look_up(address)).clone()
    }

    fn look_up(&self, address: u64) -> Vec<Rc<str>> {
        let mut functions = Vec::new();
        // What cannot be read of the debug information has no name; the instruction counts all the same.
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.and_then(|name| Some(short(&name.demangle().ok()?).into()));
                functions.extend(name);
            }
        }
        functions.reverse();
        if functions.is_empty() {
            functions.push(self.loader.find_symbol(address).unwrap_or(OUTSIDE).into());
        }
        functions
    }
}

/// A demangled name without its hash.
fn short(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

/// What was done in a function, by itself and with all that it calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: Rc<str>,
    pub own: u64,
    pub whole: u64,
}

/// Instructions by the functions that were under way, the outermost first.
#[derive(Clone, Debug, Default)]
pub struct Stacks(BTreeMap<Vec<Rc<str>>, u64>);

impl Stacks {
    /// Names what was counted on a walk.
    pub fn new(walk: &Walk, symbols: &Symbols) -> Stacks {
        let mut stacks = BTreeMap::new();
        for (sites, pc, count) in walk.counts() {
            let stack = sites.into_iter().chain([pc]).flat_map(|address| symbols.functions(address)).collect();
            *stacks.entry(stack).or_default() += count;
        }
        Stacks(stacks)
    }

    /// Those below a function whose name contains `root`, which is the lowest shown of what is around them.
    pub fn below(&self, root: &str) -> Stacks {
        let mut below = BTreeMap::new();
        for (stack, count) in &self.0 {
            if let Some(at) = stack.iter().position(|name| name.contains(root)) {
                *below.entry(stack[at..].to_vec()).or_default() += count;
            }
        }
        Stacks(below)
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each stack, in the order of names, and its instructions.
    pub fn iter(&self) -> impl Iterator<Item = (&[Rc<str>], u64)> {
        self.0.iter().map(|(stack, &count)| (&stack[..], count))
    }

    /// What every function does, that which does most first.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions: BTreeMap<&Rc<str>, (u64, u64)> = BTreeMap::new();
        for (stack, count) in self.iter() {
            if let Some(name) = stack.last() {
                functions.entry(name).or_default().0 += count;
            }
            // One that calls itself has its instructions once.
            for name in stack.iter().collect::<HashSet<_>>() {
                functions.entry(name).or_default().1 += count;
            }
        }
        let named = functions.into_iter().map(|(name, (own, whole))| Function { name: name.clone(), own, whole });
        let mut functions: Vec<Function> = named.collect();
        functions.sort_by_key(|function| std::cmp::Reverse((function.own, function.whole)));
        functions
    }

    #[cfg(test)]
    pub fn made_of(stacks: &[(&[&str], u64)]) -> Stacks {
        Stacks(stacks.iter().map(|(stack, count)| (stack.iter().map(|&name| name.into()).collect(), *count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_what_they_do_and_what_they_have_done() {
        let stacks = Stacks::made_of(&[(&["a", "b"], 5), (&["a"], 1), (&["a", "c", "b", "c"], 4)]);
        let function = |name: &str, own, whole| Function { name: name.into(), own, whole };
        assert_eq!(stacks.functions(), [function("b", 5, 9), function("c", 4, 4), function("a", 1, 10)]);
    }

    #[test]
    fn only_what_is_below_remains() {
        let stacks = Stacks::made_of(&[(&["a", "x::root", "b"], 5), (&["a"], 1), (&["c", "x::root", "b"], 2)]);
        let below = stacks.below("root");
        assert_eq!(
            below.iter().map(|(stack, count)| (stack.join(" "), count)).collect::<Vec<_>>(),
            [("x::root b".to_owned(), 7)]
        );
        assert_eq!(stacks.below("nobody").total(), 0);
    }

    #[test]
    fn hashes_are_left_out() {
        assert_eq!(short("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(short("a::hello"), "a::hello");
    }
}
