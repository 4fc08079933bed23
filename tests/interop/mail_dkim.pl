# Perl's Mail::DKIM, for many mails in one run.
#
#     perl mail_dkim.pl HOST PORT
#
# HOST and PORT are a name server's. Standard input has jobs: a line "JOB LENGTH", then so many octets. Standard output
# has their answers in the same order: a line "LENGTH", then so many octets. Jobs:
#
#     verify              of a mail; the answer is a line for each signature, "pass" or "fail (why)"
#     key                 takes a private key in PEM; there is no answer
#     sign=C:SELECTOR:L   of a mail; the answer is the signature field; C is simple/relaxed, say, L is l= or empty
use strict;
use warnings;
use Crypt::OpenSSL::RSA;
use Mail::DKIM::DNS;
use Mail::DKIM::PrivateKey;
use Mail::DKIM::Signature;
use Mail::DKIM::Signer;
use Mail::DKIM::TextWrap;
use Mail::DKIM::Verifier;
use Net::DNS::Resolver;

my ($host, $port) = @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 0));
binmode STDIN;
binmode STDOUT;
my $key;

while (defined(my $line = <STDIN>)) {
    my ($job, $length) = $line =~ /^(\S+) (\d+)$/ or die "no job: $line";
    read(STDIN, my $octets, $length) == $length or die "a job is cut off";
    if ($job eq 'key') {
        $key = Mail::DKIM::PrivateKey->load(Cork => Crypt::OpenSSL::RSA->new_private_key($octets));
        next;
    }
    my $answer = $job eq 'verify' ? verify($octets) : signature($octets, $job =~ /^sign=(.*):(.*):(.*)$/);
    print length $answer, "\n", $answer;
}

sub verify {
    my ($mail) = @_;
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($mail);
    $verifier->CLOSE;
    return join "\n", map { $_->result_detail } $verifier->signatures;
}

sub signature {
    my ($mail, $form, $selector, $length) = @_;
    my $policy = sub {
        my ($signer) = @_;
        my $signature = Mail::DKIM::Signature->new(
            Algorithm => 'rsa-sha256',
            Method    => $form,
            Headers   => $signer->headers,
            Domain    => 'example.org',
            Selector  => $selector,
            Timestamp => time,
            Key       => $key,
        );
        $signature->body_count($length) if $length ne '';
        $signer->add_signature($signature);
        return;
    };
    my $signer = Mail::DKIM::Signer->new(Policy => $policy, Headers => 'X-A:X-B:Received');
    $signer->PRINT($mail);
    $signer->CLOSE;
    return $signer->signature->as_string;
}
