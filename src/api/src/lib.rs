//! Inbound HTTP: authenticate, translate, call, render. Error codes live here.
