//! Sets of small numbers, as a class of devices has many of: a list while they are few, bits once
//! those take less room. Knows nothing of rules.

/// A set below a bound that all sets of one matrix share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RuleSet {
    /// Ascending.
    Few(Box<[u32]>),
    /// The lowest number is the lowest bit of the first word.
    Many(Box<[u64]>),
}

/// A set under construction.
#[derive(Debug)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// The empty set of numbers below `bound`.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            words: vec![0; bound.div_ceil(64)],
        }
    }

    pub(crate) fn insert(&mut self, number: u32) {
        self.words[number as usize / 64] |= 1 << (number % 64);
    }

    pub(crate) fn remove(&mut self, number: u32) {
        self.words[number as usize / 64] &= !(1 << (number % 64));
    }

    /// Adds all numbers of a set.
    pub(crate) fn add(&mut self, set: &RuleSet) {
        match set {
            RuleSet::Few(list) => list.iter().for_each(|number| self.insert(*number)),
            RuleSet::Many(words) => {
                for (word, more) in self.words.iter_mut().zip(words) {
                    *word |= more;
                }
            }
        }
    }

    /// Returns the set, and is empty afterwards.
    pub(crate) fn take(&mut self) -> RuleSet {
        let count: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        let set = match count as usize > 2 * self.words.len() {
            true => RuleSet::Many(self.words.clone().into_boxed_slice()),
            false => RuleSet::Few(self.iter().collect()),
        };
        self.words.fill(0);
        set
    }

    /// Its numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        numbers(self.words.iter().copied())
    }
}

impl RuleSet {
    /// Makes a set of numbers below `bound`, given in ascending order.
    pub(crate) fn of(ascending: Vec<u32>, bound: usize) -> Self {
        if ascending.len() <= 2 * bound.div_ceil(64) {
            return Self::Few(ascending.into_boxed_slice());
        }
        let mut bits = Bits::new(bound);
        ascending.into_iter().for_each(|number| bits.insert(number));
        Self::Many(bits.words.into_boxed_slice())
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&number).is_ok(),
            Self::Many(words) => is_in(words, number),
        }
    }

    /// Its numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, many): (&[u32], &[u64]) = match self {
            Self::Few(list) => (list, &[]),
            Self::Many(words) => (&[], words),
        };
        few.iter().copied().chain(numbers(many.iter().copied()))
    }

    /// The numbers that are in both sets, ascending.
    pub(crate) fn both<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let (few, rest, words): (&[u32], &Self, _) = match (self, other) {
            (Self::Few(a), Self::Few(b)) if a.len() > b.len() => (b, self, None),
            (Self::Few(list), set) | (set, Self::Few(list)) => (list, set, None),
            (Self::Many(a), Self::Many(b)) => (&[], self, Some((a, b))),
        };
        let listed = few.iter().copied().filter(|number| rest.contains(*number));
        let common = words.into_iter().flat_map(|(a, b)| {
            let pairs = a.iter().zip(b.iter());
            numbers(pairs.map(|(a, b)| a & b))
        });
        listed.chain(common)
    }
}

fn is_in(words: &[u64], number: u32) -> bool {
    let word = words.get(number as usize / 64);
    word.is_some_and(|word| word >> (number % 64) & 1 == 1)
}

fn numbers(words: impl Iterator<Item = u64>) -> impl Iterator<Item = u32> {
    (0..).zip(words).flat_map(|(at, mut word)| {
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros())?;
            word &= word - 1;
            Some(at * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Lists and bits are one kind of set: every pair of forms has the same intersection.
    #[test]
    fn both_forms_are_one_kind_of_set() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let bound = random.usize(1..400);
            let mut draw = |share: usize| -> BTreeSet<u32> {
                let all = 0..u32::try_from(bound).unwrap();
                all.filter(|_| random.usize(0..100) < share).collect()
            };
            let (a, b) = (draw(3), draw(60));
            for (a, b) in [(&a, &b), (&b, &a), (&b, &b), (&a, &a)] {
                let of = |set: &BTreeSet<u32>| RuleSet::of(set.iter().copied().collect(), bound);
                let both: Vec<u32> = of(a).both(&of(b)).collect();
                let expected: Vec<u32> = a.intersection(b).copied().collect();
                assert_eq!(both, expected);
                assert!(of(a).iter().eq(a.iter().copied()));
                let mut bits = Bits::new(bound);
                bits.add(&of(a));
                bits.add(&of(b));
                let joined = bits.take();
                assert!(joined.iter().eq(a.union(b).copied()));
                assert_eq!(joined, RuleSet::of(joined.iter().collect(), bound));
            }
        }
    }
}
