//! The netfilter-agent.
