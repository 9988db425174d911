"""What the kernel is asked: fences, sockets, processes."""
