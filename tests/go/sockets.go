package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// receiveBuffer is the requested size in bytes; the kernel limits it to net.core.rmem_max.
const receiveBuffer = 8 << 20

// widenReceiveBuffers enlarges the receive buffer of every datagram socket of this process. The SDK opens them with the
// default size. With twenty participants in one process the kernel then drops packets of one socket while another is
// served.
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
		// A descriptor that is not a socket, or is closed by now, has no socket type.
		if kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_DGRAM {
			continue
		}
		if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer); err != nil {
			return fmt.Errorf("receive buffer of file %d: %w", fd, err)
		}
	}
	return nil
}
