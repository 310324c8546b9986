mod demo;
mod stdio_child;
