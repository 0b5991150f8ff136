#!/usr/bin/perl
# Each line is a batch as JSON, [[wind, angle, speed], ...]; the answer is [distance, ...].
$| = 1;
while (<STDIN>) {
    my @distances;
    while (/\[([^\[\]]+)\]/g) {
        my ($wind, $angle, $speed) = split /,/, $1;
        push @distances, $speed**2 / 9.81 * sin(2 * $angle) + $wind;
    }
    print "[", join(",", @distances), "]\n";
}
