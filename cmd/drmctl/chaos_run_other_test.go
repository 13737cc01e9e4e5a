//go:build unix && !linux

package main

// runScenarios need drmctl run, which works on Linux only.
var runScenarios []scenario
