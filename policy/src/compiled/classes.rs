//! Classes of devices: those that the same rules mean. Decides which class a device is in by the
//! words that mean it; knows no device.

use std::collections::HashMap;

use super::{Leads, Meaning, PartyId, Slot, number};
use crate::document::{Party, Rule};
use crate::rule_set::{Bits, RuleSet};

/// All classes, and what makes them.
#[derive(Debug, Clone)]
pub(crate) struct Classes {
    /// By word: the slots whose rule has it on the left, and on the right.
    words: Vec<Rights>,
    all: Vec<Rights>,
    by_words: HashMap<Vec<PartyId>, u32>,
    by_rights: HashMap<Rights, u32>,
    bound: usize,
}

/// The slots by which a device may dial, and those by which it may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rights {
    pub(crate) dials: RuleSet,
    pub(crate) takes: RuleSet,
}

impl Classes {
    /// Takes the words of all slots. There is no class yet.
    pub(crate) fn new(meaning: &Meaning, rules: &[Rule], slots: &[Slot]) -> Self {
        let bound = slots.len();
        let mut dials = vec![Vec::new(); meaning.parties()];
        let mut takes = vec![Vec::new(); meaning.parties()];
        let add = |list: &mut Vec<Vec<u32>>, id: Option<PartyId>, slot: u32| {
            if let Some(id) = id {
                list[id as usize].push(slot);
            }
        };
        for (at, slot) in slots.iter().enumerate() {
            let at = number(at);
            let rule = &rules[slot.rule as usize];
            for party in &rule.from {
                add(&mut dials, meaning.id(party), at);
            }
            match slot.leads {
                Leads::Devices => {
                    for party in &rule.to {
                        add(&mut takes, meaning.id(party), at);
                    }
                }
                Leads::Own => add(&mut takes, meaning.id(&Party::Members), at),
                Leads::Hosts(_) => {}
            }
        }
        let words = dials.into_iter().zip(takes).map(|(dials, takes)| Rights {
            dials: RuleSet::of(dials, bound),
            takes: RuleSet::of(takes, bound),
        });
        Self {
            words: words.collect(),
            all: Vec::new(),
            by_words: HashMap::new(),
            by_rights: HashMap::new(),
            bound,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The rights of a class.
    pub(crate) fn rights(&self, class: u32) -> &Rights {
        &self.all[class as usize]
    }

    /// The class of a device that these words mean; they are in ascending order.
    pub(crate) fn class_of(&mut self, words: Vec<PartyId>) -> u32 {
        if let Some(class) = self.by_words.get(&words) {
            return *class;
        }
        let rights = self.rights_of(&words);
        let next = number(self.all.len());
        let class = *self.by_rights.entry(rights.clone()).or_insert(next);
        if class == next {
            self.all.push(rights);
        }
        self.by_words.insert(words, class);
        class
    }

    /// The rights of a device that these words mean, whether or not there is a class of such ones.
    pub(crate) fn rights_of(&self, words: &[PartyId]) -> Rights {
        let mut bits = Bits::new(self.bound);
        let all = words.iter().map(|word| &self.words[*word as usize]);
        all.clone().for_each(|rights| bits.add(&rights.dials));
        let dials = bits.take();
        all.for_each(|rights| bits.add(&rights.takes));
        let takes = bits.take();
        Rights { dials, takes }
    }
}
