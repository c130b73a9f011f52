//! Engines of several models on one machine: one runs at a time, in turn.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue for the machine. Two teams of threads on the same cores would wait for each other in every operator.
#[derive(Debug, Default)]
pub struct Turn {
    tickets: Mutex<Tickets>,
    next: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    given: u64,
    served: u64,
}

/// The machine, until this is dropped.
#[derive(Debug)]
pub struct Mine<'a>(&'a Turn);

impl Turn {
    /// A queue that nobody stands in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until all who came before had their turn.
    pub fn take(&self) -> Mine<'_> {
        let mut tickets = self.tickets();
        let mine = tickets.given;
        tickets.given += 1;
        let others = |tickets: &mut Tickets| tickets.served != mine;
        drop(self.next.wait_while(tickets, others).unwrap_or_else(PoisonError::into_inner));
        Mine(self)
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.0.tickets().served += 1;
        self.0.next.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn one_runs_at_a_time_and_all_in_turn() {
        const EACH: usize = 50;
        let (turn, running, order) = (Arc::new(Turn::new()), AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for name in 0..3 {
                let (turn, running, order) = (&turn, &running, &order);
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let _mine = turn.take();
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        order.lock().unwrap().push(name);
                        thread::sleep(std::time::Duration::from_micros(200));
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), 3 * EACH);
        // While all three want it, nobody has it twice before another had it once.
        let early = &order[..EACH];
        let longest = early.chunk_by(|a, b| a == b).skip(1).map(<[i32]>::len).max().unwrap();
        assert!(longest <= 2, "{order:?}");
    }
}
