package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// receiveBuffer is bounded by net.core.rmem_max, whatever is asked for.
const receiveBuffer = 8 << 20

// widenReceiveBuffers lets every datagram socket of this process hold more. The SDK opens them and leaves them as they are:
// with twenty participants in one process the kernel then drops what arrives while another one is served.
func widenReceiveBuffers() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// What is no socket, or is closed by now, has no type.
		if kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_DGRAM {
			continue
		}
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer); err != nil {
			return fmt.Errorf("receive buffer of file %d: %w", fd, err)
		}
	}
	return nil
}
