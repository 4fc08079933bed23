"""What most transcripts have in them, for zlib: it halves what the store of decisions writes.

The store keeps the text that its records were written with, so it may change from version to version.
"""

DICTIONARY = (
    b'"reason":"dns.nxdomain""outcome":"nodata""tempfail""rdtype":"MX""A""AAAA""hops":[],"handovers":[],'
    b'"disposition":"reject","reply":{"code":550,"status":"5.7.1","text":""edit":"AddField","name":"X-Filterd-Tag",'
    b'"outcome":"not reached","facts":[]},{"rule":"outcome":"fired","facts":[["envelope.sender_domain","'
    b'{"version":1,"transaction":{"id":"","client":{"ip":"","name":"","port":0},"helo":"mail.","user":"","sender":'
    b'{"text":"","mailbox":{"local":"","domain":""}},"recipients":[{"text":"","mailbox":{"local":"","domain":""}}],'
    b'"queue_id":"","daemon":"smtpd","tls":"TLSv1.3"},"at":1,"policy":"","authserv_id":"mx.","from_us":false,"author":'
    b'{"domain":"","mailboxes":[{"local":"","domain":""}]},"size":1,"results":{"spf":{"code":"pass","identity":'
    b'"mailfrom","domain":"","mechanism":"include:_spf."},"dkim":[{"code":"pass","sdid":"","auid":"@","selector":"",'
    b'"algorithm":"rsa-sha256","key_bits":2048,"signature":"","testing":false}],"dmarc":{"code":"pass","author_domain":'
    b'"","policy_domain":"","organizational_domain":"","policy":"none","published":"reject","aligned_spf":true,'
    b'"aligned_dkim":true,"testing":false,"detail":"p=none at _dmarc."},"arc":{"code":"none","instance":0,"hops":[]}},'
    b'"judgements":[{"stage":"end_of_headers","verdict":{"disposition":"continue","edits":[],"steps":[{"rule":'
    b'"dmarc.on_multiple_authors","outcome":"did not fire","facts":[["author.problem",""],["from_us",false]]}]}},'
    b'{"stage":"end_of_message","verdict":{"disposition":"continue","edits":[],"steps":[{"rule":"refuse-forgery",'
    b'"outcome":"did not fire","facts":[["arc.trusted_dmarc",""],["dmarc.policy","none"],["dmarc.result","pass"],'
    b'["message.indirect",false]]},{"rule":"quarantine-list","outcome":"did not fire","facts":['
    b'["arc.trusted_dmarc",""],["dmarc.policy","none"],["dmarc.result","pass"]]},{"rule":"unauthenticated",'
    b'"outcome":"did not fire","facts":['
    b'["arc.trusted_dmarc",""],["dkim.result","pass"],["dmarc.result","pass"],["spf.result","pass"]]}]}}],"verdict":'
    b'{"disposition":"continue","edits":[{"edit":"AddAuthenticationResults"}],"steps":[]},"signed":[],'
    b'"answers":[{"name"'
    b':"","rdtype":"TXT","outcome":"found","values":["v=spf1 include:_spf. ip4: ~all"],"ttl":3600},'
    b'{"name":"._domainkey.","rdtype":"TXT","outcome":"found",'
    b'"values":["v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"],'
    b'"ttl":300},{"name":"_dmarc.","rdtype":"TXT","outcome":"found","values":["v=DMARC1; p=reject; rua=mailto:"],"ttl":'
    b'300},{"name":"_dmarc.com","rdtype":"TXT","outcome":"nxdomain","values":[],"ttl":0}],"times":{"spf":0.1,'
    b'"dkim":0.1,'
    b'"arc":0.001,"dmarc":0.1,"end_of_message":0.2,"total":1.0},"completed":true,"handovers":[],"found":'
    b'{"message.indirect":false,"message.header_fields":20},"sources":{"author":["header From"],"spf":["TXT "],"dkim":['
    b'"TXT ._domainkey."],"dmarc":["TXT _dmarc."]},"personal":true}'
)
