//! How refusals of the core of rooms look to clients. A room that is not known is refused like one that the
//! user is not in, so that nobody learns which rooms there are; endpoints for which the specification says
//! something else match on the error before.

use rooms::Error;
use rooms::aliases::AliasProblem;

use crate::error::{ApiError, ErrCode};

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::UnknownRoom => ApiError::forbidden("You are not in this room"),
            Error::UnknownEvent => ApiError::not_found("There is no such event"),
            // The request is wrong, and not who sends it.
            Error::NotAllowed(why) if why.rule.is_of_power_levels_form() => {
                ApiError::bad_json(message)
            }
            Error::NotAllowed(_)
            | Error::Forbidden(_)
            | Error::NotHere(_)
            | Error::NotRecommended => ApiError::forbidden(message),
            Error::MembersMissing => ApiError::unavailable(message),
            Error::GuestForbidden => ApiError::guest_access_forbidden(),
            Error::BadEvent(_) => ApiError::bad_json(message),
            Error::TooLarge(_) => ApiError::too_large(message),
            Error::UnsupportedVersion(version) => ApiError::unsupported_room_version(&version),
            Error::AliasTaken(_) => ApiError::new(ErrCode::RoomInUse, message),
            Error::BadAlias(_, AliasProblem::Malformed) => ApiError::invalid_param(message),
            Error::BadAlias(_, AliasProblem::PointsElsewhere) => {
                ApiError::new(ErrCode::BadAlias, message)
            }
            Error::DuplicateAnnotation => ApiError::new(ErrCode::DuplicateAnnotation, message),
            Error::Invalid(_) => ApiError::invalid_param(message),
            Error::Damaged { .. } => ApiError::internal(error),
        }
    }
}
