//! /sync as a pure read over (since, view).
