//! Which block of the KV cache belongs to whom, and which hold a prompt's beginning that can serve again.
//!
//! A block is shared by reference count. A block that was filled by a prompt keeps its key after it is freed, until it
//! is handed out again. Blocks without a key go first, those used before them all: a runner may take memory for blocks as they come into
//! use. Of those with a key the one freed longest ago goes first. Keys chain through the block before, by a number that is
//! never used twice, so a hit is equality of all tokens so far and not of a hash.

use std::collections::{HashMap, VecDeque};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The serial number of the block before, 0 for none.
    parent: u64,
    tokens: Box<[u32]>,
}

#[derive(Clone, Debug, Default)]
struct Block {
    references: u32,
    /// Which filling of the block this is.
    serial: u64,
    key: Option<Key>,
}

/// All blocks of one model.
#[derive(Debug)]
pub struct KvCache {
    block_size: usize,
    prefix_caching: bool,
    blocks: Vec<Block>,
    free: VecDeque<u32>,
    cached: HashMap<Key, u32>,
    /// Blocks promised to admitted sequences and not handed out yet.
    reserved: usize,
    serial: u64,
}

impl KvCache {
    /// `blocks` free blocks of `block_size` positions.
    pub fn new(blocks: usize, block_size: usize, prefix_caching: bool) -> Self {
        Self {
            block_size,
            prefix_caching,
            blocks: vec![Block::default(); blocks],
            free: (0..blocks as u32).collect(),
            cached: HashMap::new(),
            reserved: 0,
            serial: 0,
        }
    }

    /// All blocks there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Blocks that no sequence uses.
    pub fn num_free(&self) -> usize {
        self.free.len()
    }

    /// The longest beginning of `prompt` in whole blocks that a prompt before has computed. At least the last token is
    /// left to compute, since its logits are needed.
    fn find_prefix(&self, prompt: &[u32]) -> Vec<u32> {
        let mut found = Vec::new();
        let mut parent = 0;
        if !self.prefix_caching {
            return found;
        }
        for tokens in prompt[..prompt.len().saturating_sub(1)].chunks_exact(self.block_size) {
            let Some(&block) = self.cached.get(&Key { parent, tokens: tokens.into() }) else { break };
            found.push(block);
            parent = self.blocks[block as usize].serial;
        }
        found
    }

    /// Whether prompts are looked up.
    pub fn caches_prefixes(&self) -> bool {
        self.prefix_caching
    }

    /// How many positions of one sequence could serve another with the same prompt of this many tokens: whole blocks
    /// before the last token.
    pub fn shareable(&self, prompt_len: usize) -> usize {
        if self.prefix_caching { prompt_len.saturating_sub(1) / self.block_size * self.block_size } else { 0 }
    }

    /// Admits a sequence that will hold at most `positions` positions: takes the blocks of its prompt's known beginning
    /// and promises the rest. `None` when there are not enough now.
    pub fn admit(&mut self, prompt: &[u32], positions: usize) -> Option<Vec<u32>> {
        let prefix = self.find_prefix(prompt);
        let idle = prefix.iter().filter(|b| self.blocks[**b as usize].references == 0).count();
        let rest = positions.div_ceil(self.block_size) - prefix.len();
        if rest + idle + self.reserved > self.free.len() {
            return None;
        }
        for &block in &prefix {
            self.blocks[block as usize].references += 1;
            self.free.retain(|b| *b != block);
        }
        self.reserved += rest;
        Some(prefix)
    }

    /// Hands out one block of those promised by [`admit`](Self::admit).
    ///
    /// # Panics
    /// When none is promised.
    pub fn take_reserved(&mut self) -> u32 {
        self.reserved = self.reserved.checked_sub(1).expect("a block was promised");
        let index = self.free.pop_front().expect("a promised block is free");
        self.forget(index);
        let block = &mut self.blocks[index as usize];
        block.references = 1;
        self.serial += 1;
        block.serial = self.serial;
        index
    }

    /// Makes a block unknown to later prompts.
    pub fn forget(&mut self, index: u32) {
        if let Some(key) = self.blocks[index as usize].key.take() {
            self.cached.remove(&key);
        }
    }

    /// A block that may be written over while no sequence is in flight: one that holds no prompt's beginning, or else the
    /// one that was freed longest ago, which then serves no prompt any more.
    ///
    /// # Panics
    /// When no block is free.
    pub fn scratch(&mut self) -> u32 {
        let empty = self.free.iter().copied().find(|b| self.blocks[*b as usize].key.is_none());
        let index = empty.unwrap_or_else(|| *self.free.front().expect("a block is free"));
        self.forget(index);
        index
    }

    /// Lets no prompt to come use what was computed so far.
    pub fn forget_prompts(&mut self) {
        self.cached.clear();
        for block in &mut self.blocks {
            block.key = None;
        }
    }

    /// Makes the whole blocks of a computed prompt known to later ones.
    pub fn remember_prompt(&mut self, prompt: &[u32], blocks: &[u32]) {
        if !self.prefix_caching {
            return;
        }
        let mut parent = 0;
        for (tokens, &index) in prompt.chunks_exact(self.block_size).zip(blocks) {
            let key = Key { parent, tokens: tokens.into() };
            // The same beginning computed twice at the same time: the first stays, and the chain goes on through it.
            let known = *self.cached.entry(key.clone()).or_insert(index);
            if known == index {
                self.blocks[index as usize].key = Some(key);
            }
            parent = self.blocks[known as usize].serial;
        }
    }

    /// Takes a sequence's blocks back, and the promise of those it never needed.
    pub fn release(&mut self, blocks: &[u32], still_reserved: usize) {
        self.reserved -= still_reserved;
        // The end of a sequence goes first when blocks are needed: its beginning is the likelier to come again.
        for &index in blocks.iter().rev() {
            let block = &mut self.blocks[index as usize];
            block.references -= 1;
            match block.references {
                0 if block.key.is_some() => self.free.push_back(index),
                0 => self.free.push_front(index),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &mut KvCache, prompt: &[u32], positions: usize) -> Option<(usize, Vec<u32>)> {
        let mut blocks = cache.admit(prompt, positions)?;
        let hits = blocks.len();
        while blocks.len() < positions.div_ceil(4) {
            blocks.push(cache.take_reserved());
        }
        cache.remember_prompt(prompt, &blocks);
        Some((hits, blocks))
    }

    #[test]
    fn a_prompt_finds_the_whole_blocks_of_one_before_and_computes_its_last_token() {
        let mut cache = KvCache::new(8, 4, true);
        let (hits, blocks) = fill(&mut cache, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 12).unwrap();
        assert_eq!(hits, 0);
        let (hits, same) = fill(&mut cache, &[1, 2, 3, 4, 5, 6, 7, 8], 8).unwrap();
        assert_eq!(hits, 1, "the second block holds the last token");
        assert_eq!(same[0], blocks[0]);
        cache.release(&blocks, 0);
        cache.release(&same, 0);
        assert_eq!(cache.num_free(), 8);
        let (hits, _) = fill(&mut cache, &[1, 2, 3, 4, 5, 6, 7, 8, 1], 12).unwrap();
        assert_eq!(hits, 2, "freed blocks still serve");
        let (hits, _) = fill(&mut cache, &[9, 2, 3, 4, 5, 6, 7, 8, 1], 12).unwrap();
        assert_eq!(hits, 0, "a block serves only behind the same beginning");
    }

    #[test]
    fn blocks_can_be_forgotten() {
        let mut cache = KvCache::new(8, 4, true);
        let (_, blocks) = fill(&mut cache, &[1, 2, 3, 4, 5], 8).unwrap();
        blocks.iter().for_each(|block| cache.forget(*block));
        cache.release(&blocks, 0);
        assert_eq!(fill(&mut cache, &[1, 2, 3, 4, 5], 8).unwrap().0, 0);
        assert_eq!([0, 1, 4, 5, 8, 9].map(|len| cache.shareable(len)), [0, 0, 0, 4, 4, 8]);
    }

    #[test]
    fn a_block_handed_out_again_is_forgotten() {
        let mut cache = KvCache::new(2, 4, true);
        let (_, blocks) = fill(&mut cache, &[1, 2, 3, 4, 5], 8).unwrap();
        cache.release(&blocks, 0);
        let (_, blocks) = fill(&mut cache, &[7, 7, 7, 7, 7], 8).unwrap();
        cache.release(&blocks, 0);
        assert_eq!(fill(&mut cache, &[1, 2, 3, 4, 5], 8).unwrap().0, 0);
    }

    #[test]
    fn what_serves_nobody_is_handed_out_before_what_was_never_used_and_prompts_last() {
        let mut cache = KvCache::new(6, 4, true);
        let (_, blocks) = fill(&mut cache, &[1, 2, 3, 4, 5], 12).unwrap();
        assert_eq!(blocks, [0, 1, 2]);
        cache.release(&blocks, 0);
        let (_, next) = fill(&mut cache, &[6; 3], 20).unwrap();
        assert_eq!(next, [1, 2, 3, 4, 5]);
        assert_eq!(fill(&mut cache, &[1, 2, 3, 4, 5], 4).unwrap(), (1, vec![0]));
    }

    #[test]
    fn scratch_takes_an_empty_block_and_else_the_one_freed_longest_ago() {
        let mut cache = KvCache::new(3, 4, true);
        let (_, first) = fill(&mut cache, &[1, 2, 3, 4], 4).unwrap();
        cache.release(&first, 0);
        let empty = cache.scratch();
        assert_ne!(empty, first[0]);
        assert_eq!(
            fill(&mut cache, &[1, 2, 3, 4, 5], 4).unwrap(),
            (1, first.clone()),
            "the prompt's block is as it was"
        );
        cache.release(&first, 0);
        let (_, more) = fill(&mut cache, &[6, 7, 8, 9, 6, 7, 8, 9], 8).unwrap();
        cache.release(&more, 0);
        assert_eq!(cache.scratch(), first[0], "all hold a prompt's beginning");
        assert_eq!(cache.num_free(), 3);
        assert_eq!(fill(&mut cache, &[1, 2, 3, 4, 5], 4).unwrap().0, 0, "what is written over is forgotten");
    }

    #[test]
    fn promises_are_kept_and_given_back() {
        let mut cache = KvCache::new(4, 4, false);
        let first = cache.admit(&[1; 5], 12).unwrap();
        assert!(first.is_empty());
        assert!(cache.admit(&[2; 5], 8).is_none(), "three of four blocks are promised");
        let block = cache.take_reserved();
        cache.release(&[block], 2);
        assert!(cache.admit(&[2; 5], 16).is_some());
    }
}
