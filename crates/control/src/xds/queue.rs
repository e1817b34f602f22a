//! Which types are due to send a request, in their order; types can be paused, so that many changes make one request.

use std::collections::{HashMap, VecDeque};

#[derive(Default)]
pub struct Queue {
    due: VecDeque<String>,
    paused: HashMap<String, usize>,
}

impl Queue {
    /// A request of this type is due.
    pub fn push(&mut self, url: &str) {
        if !self.due.iter().any(|u| u == url) {
            self.due.push_back(url.to_owned());
        }
    }
    /// The first that is not paused.
    pub fn pop(&mut self) -> Option<String> {
        let at = self.due.iter().position(|u| !self.paused.contains_key(u))?;
        self.due.remove(at)
    }
    pub fn pause(&mut self, url: &str) {
        *self.paused.entry(url.to_owned()).or_default() += 1;
    }
    /// What was due meanwhile comes after what was due already.
    pub fn resume(&mut self, url: &str) {
        let Some(n) = self.paused.get_mut(url) else { return };
        *n -= 1;
        if *n > 0 {
            return;
        }
        self.paused.remove(url);
        if let Some(at) = self.due.iter().position(|u| u == url)
            && let Some(u) = self.due.remove(at)
        {
            self.due.push_back(u);
        }
    }
    pub fn clear(&mut self) {
        self.due.clear();
    }
    pub fn is_paused(&self, url: &str) -> bool {
        self.paused.contains_key(url)
    }
    pub fn len(&self) -> usize {
        self.due.len()
    }
}
