module github.com/onebell/onebell/services/sender

go 1.26

require (
	github.com/onebell/onebell/pkg v0.0.0
	github.com/onebell/onebell/proto v0.0.0
)

replace (
	github.com/onebell/onebell/pkg => ../../pkg
	github.com/onebell/onebell/proto => ../../proto
)
