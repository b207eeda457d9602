"""Doing what a plan says: provisioning through Ansible, everything else through the host program."""
