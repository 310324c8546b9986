mod stdio_child;
