//! Who may do what: each route of the table × each role and key × an agent of the token's scope and another one, and
//! the registry likewise, against a real server.

mod registry;
mod routes;
mod table;
mod world;
