//! Classes of devices: those that the same rules mean. Decides which class a device is in by the
//! words that mean it; knows no device.

use std::collections::HashMap;
use std::sync::Arc;

use super::{PartyId, Text, number};
use crate::rule_set::{Bits, RuleSet};

/// The classes that were met so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Classes {
    all: Vec<Arc<Rights>>,
    by_words: HashMap<Arc<[PartyId]>, u32>,
    by_rights: HashMap<Arc<Rights>, u32>,
}

/// The slots by which a device may dial, and those by which it may be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rights {
    pub(crate) dials: RuleSet,
    pub(crate) takes: RuleSet,
}

impl Rights {
    /// The rights of a device that these words mean.
    pub(crate) fn of(text: &Text, words: &[PartyId]) -> Self {
        let mut bits = Bits::new(text.slots.len());
        let all = words.iter().map(|word| &text.words[*word as usize]);
        all.clone().for_each(|rights| bits.add(&rights.dials));
        let dials = bits.take();
        all.for_each(|rights| bits.add(&rights.takes));
        let takes = bits.take();
        Self { dials, takes }
    }
}

impl Classes {
    /// The number of different sets of words that were met.
    pub(crate) fn met(&self) -> usize {
        self.by_words.len()
    }

    /// The rights of a class.
    pub(crate) fn rights(&self, class: u32) -> &Rights {
        &self.all[class as usize]
    }

    /// The class of a device that these words mean; they are in ascending order.
    pub(crate) fn class_of(&mut self, text: &Text, words: &Arc<[PartyId]>) -> u32 {
        if let Some(class) = self.by_words.get(words) {
            return *class;
        }
        let rights = Arc::new(Rights::of(text, words));
        let next = number(self.all.len());
        let class = *self.by_rights.entry(rights.clone()).or_insert(next);
        if class == next {
            self.all.push(rights);
        }
        self.by_words.insert(words.clone(), class);
        class
    }
}
