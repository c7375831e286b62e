//! `required_state`: which entries of a room's state a client wants.
//!
//! Each rule that a room matches has a selection of its own; an entry is wanted if one of them wants it.

/// Type of the events that members are.
pub const MEMBER: &str = "m.room.member";

/// Entries of a state; what is not said matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// The type.
    pub event_type: Option<String>,
    /// The state key.
    pub state_key: Option<String>,
}

impl Element {
    fn matches(&self, event_type: &str, state_key: &str) -> bool {
        self.event_type.as_deref().is_none_or(|of| of == event_type)
            && self.state_key.as_deref().is_none_or(|key| key == state_key)
    }
}

/// What one rule wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What is wanted.
    pub include: Vec<Element>,
    /// What is not, though it is included.
    pub exclude: Vec<Element>,
    /// Types of which only that is wanted which is included by the name of the type.
    pub narrowed: Vec<String>,
    /// Members are sent when events of theirs are: others only where they are included by name.
    pub lazy_members: bool,
}

impl Selection {
    fn includes(&self, element: &Element, event_type: &str, state_key: &str) -> bool {
        if !element.matches(event_type, state_key) {
            return false;
        }
        if self.lazy_members && event_type == MEMBER {
            return element.state_key.is_some();
        }
        element.event_type.is_some() || !self.narrowed.iter().any(|of| of == event_type)
    }

    fn wants(&self, event_type: &str, state_key: &str) -> bool {
        let of = |element: &&Element| self.includes(element, event_type, state_key);
        self.include.iter().any(|element| of(&element))
            && !(self.exclude.iter()).any(|element| element.matches(event_type, state_key))
    }

    fn wants_all_members(&self) -> bool {
        let any = Element {
            event_type: Some(MEMBER.to_owned()),
            state_key: None,
        };
        !self.lazy_members
            && self.include.iter().any(|element| {
                element.state_key.is_none()
                    && match &element.event_type {
                        Some(of) => of == MEMBER,
                        None => !self.narrowed.iter().any(|of| of == MEMBER),
                    }
            })
            && !self.exclude.contains(&any)
    }
}

/// How wanted entries are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// These entries, and all entries of these types.
    Named {
        /// Type and state key.
        entries: Vec<(String, String)>,
        /// Types.
        types: Vec<String>,
    },
    /// All of the state has to be looked at.
    Everything {
        /// The members too, and not just those in `named`.
        members: bool,
        /// User ids of members that are wanted anyway.
        named: Vec<String>,
    },
}

/// What all the rules want that a room matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredState {
    selections: Vec<Selection>,
}

impl RequiredState {
    /// What one rule wants.
    pub fn new(selection: Selection) -> Self {
        Self {
            selections: vec![selection],
        }
    }

    /// Takes in what another rule wants.
    pub fn unite(&mut self, other: &RequiredState) {
        for selection in &other.selections {
            if !self.selections.contains(selection) {
                self.selections.push(selection.clone());
            }
        }
    }

    /// Whether an entry is wanted.
    pub fn wants(&self, event_type: &str, state_key: &str) -> bool {
        (self.selections.iter()).any(|selection| selection.wants(event_type, state_key))
    }

    /// Whether members are sent when events of theirs are, as not all of them are sent anyway.
    pub fn is_lazy(&self) -> bool {
        self.selections
            .iter()
            .any(|selection| selection.lazy_members)
            && !self.wants_all_members()
    }

    /// Whether all members are sent.
    pub fn wants_all_members(&self) -> bool {
        self.selections.iter().any(Selection::wants_all_members)
    }

    /// How what is wanted is found.
    pub fn reach(&self) -> Reach {
        let (mut entries, mut types, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let (mut everything, mut members) = (false, false);
        for selection in &self.selections {
            members |= selection.wants_all_members();
            for element in &selection.include {
                match (&element.event_type, &element.state_key) {
                    (Some(of), Some(key)) => {
                        if of == MEMBER {
                            named.push(key.clone());
                        }
                        entries.push((of.clone(), key.clone()));
                    }
                    (Some(of), None) if of == MEMBER && selection.lazy_members => {}
                    (Some(of), None) => types.push(of.clone()),
                    (None, key) => {
                        everything = true;
                        named.extend(key.clone());
                    }
                }
            }
        }
        if everything {
            return Reach::Everything { members, named };
        }
        types.sort_unstable();
        types.dedup();
        Reach::Named { entries, types }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(event_type: &str, state_key: &str) -> Element {
        let some = |text: &str| (text != "*").then(|| text.to_owned());
        Element {
            event_type: some(event_type),
            state_key: some(state_key),
        }
    }

    #[test]
    fn lazy_members_narrow_a_wildcard_to_those_named() {
        let state = RequiredState::new(Selection {
            include: vec![element("*", "*"), element(MEMBER, "@me:here")],
            lazy_members: true,
            ..Selection::default()
        });
        assert!(state.is_lazy());
        assert!(state.wants("m.room.topic", ""));
        assert!(state.wants(MEMBER, "@me:here"));
        assert!(!state.wants(MEMBER, "@other:here"));
        let named = vec!["@me:here".to_owned()];
        let members = false;
        assert_eq!(state.reach(), Reach::Everything { members, named });
    }

    #[test]
    fn what_is_excluded_by_one_rule_may_be_wanted_by_another() {
        let all_but_topic = Selection {
            include: vec![element("*", "*")],
            exclude: vec![element("m.room.topic", "*")],
            ..Selection::default()
        };
        let mut state = RequiredState::new(all_but_topic);
        assert!(!state.wants("m.room.topic", ""));
        assert!(state.wants("m.room.name", ""));
        state.unite(&RequiredState::new(Selection {
            include: vec![element("m.room.topic", "")],
            ..Selection::default()
        }));
        assert!(state.wants("m.room.topic", ""));
    }

    #[test]
    fn all_members_of_one_rule_outdo_the_lazy_ones_of_another() {
        let mut state = RequiredState::new(Selection {
            lazy_members: true,
            ..Selection::default()
        });
        assert!(state.is_lazy());
        state.unite(&RequiredState::new(Selection {
            include: vec![element(MEMBER, "*")],
            ..Selection::default()
        }));
        assert!(!state.is_lazy());
        assert!(state.wants(MEMBER, "@any:here"));
    }

    #[test]
    fn a_type_that_is_named_beside_the_wildcard_is_narrowed() {
        let state = RequiredState::new(Selection {
            include: vec![element("*", "*"), element(MEMBER, "@me:here")],
            narrowed: vec![MEMBER.to_owned()],
            ..Selection::default()
        });
        assert!(state.wants(MEMBER, "@me:here"));
        assert!(!state.wants(MEMBER, "@other:here"));
        assert!(state.wants("m.room.name", ""));
    }
}
