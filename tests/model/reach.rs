//! Breadth first with the graph kept: the shortest way to a broken rule, and states from which no state at rest can be
//! reached any more. "Eventually" of stateright holds on paths without cycles only, and controllers go in cycles.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use stateright::Model;

use crate::process::Ended;
use crate::rules::Rule;
use crate::shared::digest;
use crate::world::{Action, Issuing, World};

/// What an exploration found.
pub struct Graph {
    /// How each state was reached first: from which other, by which action.
    reached: Vec<Option<(usize, Action)>>,
    edges: Vec<(u32, u32)>,
    resting: Vec<usize>,
    /// A controller needed another attempt than the budget has.
    pub starved: usize,
    /// The first state that breaks a rule. The exploration ends there.
    pub broken: Option<(usize, Rule)>,
}

impl Graph {
    /// Everything that the model can reach, or the shortest way to a broken rule.
    pub fn of(model: &Issuing) -> Graph {
        let mut graph = Graph {
            reached: Vec::new(),
            edges: Vec::new(),
            resting: Vec::new(),
            starved: 0,
            broken: None,
        };
        graph.explore(model);
        graph
    }

    fn explore(&mut self, model: &Issuing) {
        let mut known = HashMap::new();
        let mut next = VecDeque::new();
        for world in model.init_states() {
            known.insert(digest(&world), self.reached.len());
            next.push_back((self.reached.len(), world));
            self.reached.push(None);
        }
        while let Some((from, world)) = next.pop_front() {
            if let Some(rule) = broken(&world) {
                self.broken = Some((from, rule));
                return;
            }
            self.note(from, &world);
            let mut actions = Vec::new();
            model.actions(&world, &mut actions);
            for action in actions {
                let Some(world) = model.next_state(&world, action) else {
                    continue;
                };
                let to = match known.entry(digest(&world)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let to = *new.insert(self.reached.len());
                        self.reached.push(Some((from, action)));
                        next.push_back((to, world));
                        to
                    }
                };
                self.edges.push((from as u32, to as u32));
            }
        }
    }

    fn note(&mut self, state: usize, world: &World) {
        let ended = |how| world.controllers.iter().any(|process| process.ended == how);
        let starved = ended(Ended::OutOfAttempts);
        self.starved += usize::from(starved);
        if starved || ended(Ended::Called) || world.rests() {
            self.resting.push(state);
        }
    }

    pub fn states(&self) -> usize {
        self.reached.len()
    }

    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// The states, nearest first, from which no state at rest can be reached.
    pub fn restless(&self) -> Vec<usize> {
        let backward = Backward::new(self.states(), &self.edges);
        let mut reaches = vec![false; self.states()];
        let mut open = self.resting.clone();
        while let Some(state) = open.pop() {
            if !std::mem::replace(&mut reaches[state], true) {
                open.extend(backward.sources(state));
            }
        }
        let restless = |(state, reaches): (usize, bool)| (!reaches).then_some(state);
        reaches
            .into_iter()
            .enumerate()
            .filter_map(restless)
            .collect()
    }

    /// The shortest way to a state.
    pub fn way(&self, mut state: usize) -> Vec<Action> {
        let mut way = Vec::new();
        while let Some((from, action)) = self.reached[state] {
            way.push(action);
            state = from;
        }
        way.reverse();
        way
    }

    /// The shortest counter-example, if there is one.
    pub fn counter_example(&self) -> Option<(Rule, Vec<Action>)> {
        if let Some((state, rule)) = self.broken {
            return Some((rule, self.way(state)));
        }
        let restless = self.restless();
        let state = restless.first()?;
        Some((Rule::RestIsInReach, self.way(*state)))
    }
}

fn broken(world: &World) -> Option<Rule> {
    let rule = Rule::RestsOnTheAcceptedSecret;
    let disorder = || !world.is_in_order() && world.rests() && world.history.counts(rule);
    world.history.broken.or_else(|| disorder().then_some(rule))
}

/// The edges by where they lead.
struct Backward {
    /// Where in `from` those into a state begin.
    begin: Vec<usize>,
    from: Vec<u32>,
}

impl Backward {
    fn new(states: usize, edges: &[(u32, u32)]) -> Backward {
        let mut begin = vec![0; states + 1];
        for (_, to) in edges {
            begin[*to as usize + 1] += 1;
        }
        for state in 0..states {
            begin[state + 1] += begin[state];
        }
        let mut free = begin.clone();
        let mut from = vec![0; edges.len()];
        for (source, to) in edges {
            let place = &mut free[*to as usize];
            from[*place] = *source;
            *place += 1;
        }
        Backward { begin, from }
    }

    fn sources(&self, state: usize) -> impl Iterator<Item = usize> {
        let range = self.begin[state]..self.begin[state + 1];
        self.from[range].iter().map(|from| *from as usize)
    }
}
