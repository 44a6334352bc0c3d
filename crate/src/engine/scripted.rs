//! A runner that knows what will be said: recorded tokens take the model's place. Scheduler, requests, speculation and
//! metrics run on it as on any device.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::Result;
use crate::program::{Batch, Capacity, Runner, Running, StepOutput};

/// The batches that a runner was given, in order.
pub type Log = Rc<RefCell<Vec<Batch>>>;

/// Its KV cache holds tokens, so it sees of a sequence what a model would: what the block tables lead to.
pub struct Scripted {
    capacity: Capacity,
    /// Prompts with all that follows them.
    texts: Vec<Vec<u32>>,
    /// By block, then by position in it.
    cache: Vec<u32>,
    /// By slot, then by index: blocks.
    tables: Vec<u32>,
    /// What the last step sampled, and what those in flight did.
    sampled: Vec<u32>,
    in_flight: VecDeque<Vec<u32>>,
    most_in_flight: usize,
    log: Log,
}

impl Scripted {
    /// A runner that continues these texts, each a prompt and what follows; a context that is none of their beginnings is
    /// followed by [`u32::MAX`] - 1. It has no logits.
    pub fn new(capacity: Capacity, texts: Vec<Vec<u32>>) -> Self {
        let cache = vec![0; capacity.blocks * capacity.block_size];
        let tables = vec![0; capacity.slots * capacity.table_len()];
        let (sampled, in_flight, log) = Default::default();
        Self { capacity, texts, cache, tables, sampled, in_flight, most_in_flight: 1, log }
    }

    /// Lets so many steps be in flight.
    pub fn set_steps_in_flight(&mut self, most: usize) {
        self.most_in_flight = most;
    }

    /// Where it notes every batch.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Where a position of a slot lies.
    fn place(&self, slot: u32, position: u32) -> usize {
        let (size, position) = (self.capacity.block_size, position as usize);
        let block = self.tables[slot as usize * self.capacity.table_len() + position / size];
        block as usize * size + position % size
    }

    /// What follows the first tokens of a slot.
    fn next(&self, slot: u32, last: u32) -> u32 {
        let context: Vec<u32> = (0..=last).map(|position| self.cache[self.place(slot, position)]).collect();
        let text = self.texts.iter().find(|text| text.len() > context.len() && text.starts_with(&context));
        text.map_or(u32::MAX - 1, |text| text[context.len()])
    }
}

impl Runner for Scripted {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn launches(&self) -> usize {
        0
    }

    fn set_ropes(&mut self, _tables: &[Vec<f32>]) {}

    fn steps_in_flight(&self) -> usize {
        self.most_in_flight
    }

    fn submit(&mut self, batch: &Batch) -> Result<()> {
        assert!(batch.logits.is_empty(), "recorded tokens have no logits");
        assert!(self.in_flight.len() < self.most_in_flight, "more steps than may be in flight");
        for entry in &batch.tables {
            self.tables[entry.slot as usize * self.capacity.table_len() + entry.index as usize] = entry.block;
        }
        for (i, row) in batch.rows.iter().enumerate() {
            let place = self.place(row.slot, row.position);
            let carry = batch.carried.iter().find(|carry| carry.row == i);
            self.cache[place] = carry.map_or(row.token, |carry| self.sampled[carry.output as usize]);
        }
        let outputs = batch.rows.iter().filter(|row| row.output);
        self.sampled = outputs.map(|row| self.next(row.slot, row.position)).collect();
        self.in_flight.push_back(self.sampled.clone());
        self.log.borrow_mut().push(batch.clone());
        Ok(())
    }

    fn finish<'a>(&'a mut self, _batch: &'a Batch) -> Running<'a, StepOutput> {
        let tokens = self.in_flight.pop_front().expect("a step in flight");
        Box::pin(std::future::ready(Ok(StepOutput { tokens, ..Default::default() })))
    }

    fn fingerprint(&self) -> u64 {
        0
    }

    fn row_checks(&self) -> usize {
        0
    }

    fn check_rows(&mut self, _part: usize, _scratch: u32) -> Running<'_, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn single_kernel_path(&self) -> bool {
        false
    }

    fn set_single_kernel_path(&mut self, _single: bool) {}
}
