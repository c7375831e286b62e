//! `meyrin room`: the rooms, by the running server or without one.

use crate::command_line::RoomCommand;
use crate::operator::{Request, connect};
use crate::{ConfigSource, logging};

pub fn run(command: RoomCommand, source: &ConfigSource) -> Result<(), String> {
    let config = source.load().map_err(|error| error.to_string())?;
    logging::start(&config.log);
    let request = match command {
        RoomCommand::List { by, limit, json } => Request::RoomList { by, limit, json },
        RoomCommand::Show { room, limit, json } => Request::RoomShow { room, limit, json },
        RoomCommand::Graph {
            room,
            last,
            around,
            span,
        } => Request::RoomGraph {
            room,
            last,
            around: around.map(|event| (event, span)),
        },
        RoomCommand::State {
            room,
            at,
            before,
            diff,
            event_type,
            key,
            content,
            page,
            json,
        } => Request::RoomState {
            room,
            state: RoomCommand::state(at, before, diff),
            event_type,
            key,
            content,
            page,
            json,
        },
        RoomCommand::Check { room, quick } => Request::RoomCheck { room, quick },
    };
    connect::ask(&config, request).map_err(|error| error.to_string())
}
