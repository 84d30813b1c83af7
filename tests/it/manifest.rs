//! `langgraph.json` and `.env`, held against the programs whose formats they are.

mod corpus;
mod dotenv;
