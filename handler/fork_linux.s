// The declarations without a body in fork_linux.go need a file of assembly in the package.
