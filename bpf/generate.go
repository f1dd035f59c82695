package bpf

//go:generate go tool bpf2go -target bpfel,bpfeb -type bank -type counter -type reason -type direction -type prefix4 -type prefix6 -type record steer steer.c -- -I headers -Wall -Wextra -Werror
//go:generate sh -c "clang --version | head -n 1 > CLANG"
