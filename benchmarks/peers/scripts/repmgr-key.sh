# Print a new key with which the servers' user reaches every machine (switchovers go over SSH).
directory=$(mktemp -d)
ssh-keygen -q -t ed25519 -N '' -f "$directory/key"
cat "$directory/key"
rm -r "$directory"
