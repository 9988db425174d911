"""The lab: clusters of real systemd machines on this one, without a hypervisor."""
