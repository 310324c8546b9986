//! The MCP wire layer: bytes and values, no HTTP, no TLS, no async runtime.
