//! What is tested against a real API server. All of it is one program, since to link each file on its own would take
//! longer than to run it; each has a namespace of its own.

mod admission;
mod chart;
mod check;
mod conflicts;
mod consumption;
mod cut_answers;
mod devices;
mod entropy;
mod existing;
mod feed;
mod frontends;
mod gateway;
mod gitops;
mod hostile;
mod hostile_secrets;
mod hostile_status;
mod issuing;
mod kills;
mod monitoring;
mod openapi;
mod operation;
mod outages;
mod pod_security;
mod policies;
mod processes;
mod restore;
mod rotation;
mod scale;
mod schedule;
mod schema;
mod support;
mod unreadable;
mod validity;
