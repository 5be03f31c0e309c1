package prescription

// Substances of the Misuse of Drugs Regulations 2001 (as amended to 2025), Schedules 1 to 3, by the words that name them alone: British
// approved and international names, the commoner brands in the United Kingdom. Each list is sorted. It is a safety net and not the
// authority: a dm+d extract decides by code where one is imported.
var (
	schedule1 = []string{
		"brolamfetamine", "bromodimethoxyphenethylamine", "bufotenine", "cannabinol", "cannabis", "cathinone", "coca", "dimethyltryptamine",
		"dmt", "eticyclidine", "etryptamine", "khat", "lsd", "lysergamide", "lysergide", "mda", "mdma", "mephedrone", "mescaline",
		"methcathinone", "methoxetamine", "methylenedioxyamphetamine", "methylenedioxymethamfetamine", "methylenedioxymethamphetamine",
		"naphyrone", "psilocin", "psilocybin", "psilocybine", "rolicyclidine", "tenamfetamine", "tenocyclidine",
	}

	schedule2 = []string{
		"abstral", "abtard", "acetorphine", "actiq", "alfentanil", "allylprodine", "alphacetylmethadol", "alphameprodine", "alphamethadol",
		"alphaprodine", "amfetamine", "amfetamines", "amfexa", "amineptine", "amphetamine", "anileridine", "bedrocan", "benzethidine",
		"benzylmorphine", "betacetylmethadol", "betameprodine", "betamethadol", "betaprodine", "bezitramide", "breakyl", "carfentanil",
		"clonitazene", "cocaine", "codoxime", "concerta", "cyclimorph", "delmosart", "desomorphine", "dexamfetamine", "dexamphetamine",
		"dexedrine", "dexmethylphenidate", "dextroamphetamine", "dextromoramide", "diamorphine", "diampromide", "diconal", "diethylthiambutene",
		"dihydroetorphine", "dihydromorphine", "dimenoxadole", "dimepheptanol", "dimethylthiambutene", "dioxaphetyl", "dipipanone",
		"dronabinol", "drotebanol", "durogesic", "ecgonine", "effentora", "elvanse", "equasym", "esketamine", "ethylmethylthiambutene",
		"etonitazene", "etorphine", "etoxeridine", "fencino", "fenethylline", "fenetylline", "fentanil", "fentanyl", "filnarine", "furethidine",
		"ghb", "glutethimide", "heroin", "hydrocodone", "hydromorphinol", "hydromorphone", "hydroxybutyrate", "hydroxypethidine", "instanyl",
		"isomethadone", "ketalar", "ketamine", "ketobemidone", "lefetamine", "levomethorphan", "levomoramide", "levophenacylmorphan",
		"levorphanol", "lisdexamfetamine", "lisdexamphetamine", "lofentanil", "longtec", "lynlor", "matoride", "matrifen", "mecloqualone",
		"medikinet", "meperidine", "metazocine", "methadone", "methadose", "methadyl", "methamfetamine", "methamphetamine", "methaqualone",
		"methylamphetamine", "methyldesorphine", "methyldihydromorphine", "methylphenidate", "metopon", "metyrol", "mezolar", "morpheridine",
		"morphgesic", "mst", "mxl", "myrophine", "nabilone", "nicodicodine", "nicomorphine", "noracymethadol", "norlevorphanol", "normethadone",
		"normorphine", "norpipanone", "oliceridine", "onexila", "opiodur", "opium", "oripavine", "osmach", "oxeltra", "oxyact", "oxybate",
		"oxycodone", "oxycontin", "oxylan", "oxymorphone", "oxynorm", "palexia", "palladone", "papaveretum", "pecfent", "pethidine",
		"phenadoxone", "phenampromide", "phenazocine", "phencyclidine", "phenmetrazine", "phenomorphan", "phenoperidine", "physeptone",
		"piminodine", "piritramide", "proheptazine", "properidine", "proxamol", "quinalbarbitone", "racemethorphan", "racemoramide",
		"racemorphan", "rapifen", "recivit", "reltebon", "remifentanil", "renocontin", "ritalin", "secobarbital", "sevredol", "shortec",
		"spravato", "sufentanil", "tapentadol", "targinact", "tetrahydrocannabinol", "thebacon", "thebaine", "tilidate", "tilidine",
		"tranquilyn", "trimeperidine", "ultiva", "victanyl", "xaggitin", "xenidate", "xyrem", "yemex", "zipeprol", "zomorph",
	}

	schedule3 = []string{
		"allobarbital", "alzain", "amfepramone", "amobarbital", "amylobarbitone", "amytal", "aprobarbital", "axalid", "barbital", "barbitone",
		"benzfetamine", "benzphetamine", "buccolam", "bunov", "bupeaze", "buprenorphine", "butalbital", "butec", "butobarbital",
		"butobarbitone", "butrans", "buvidal", "cathine", "chlorphentermine", "cyclobarbital", "diethylpropion", "epistatus", "espranor",
		"ethchlorvynol", "ethinamate", "flunitrazepam", "gabapentin", "gabup", "hapoctasin", "heptabarbital", "hexethal", "hypnovel", "larapam",
		"lecaent", "lyrica", "mabron", "marol", "maxitram", "mazindol", "mephentermine", "meprobamate", "methylphenobarbital",
		"methylphenobarbitone", "methyprylon", "midazolam", "natzon", "neurontin", "panitaz", "pentazocine", "pentobarbital", "pentobarbitone",
		"phendimetrazine", "phenobarbital", "phenobarbitone", "phentermine", "pipradrol", "prefibin", "pregabalin", "reletrans", "relevtec",
		"rewisca", "rohypnol", "sevodyne", "sixmo", "skudexa", "suboxone", "subutex", "talbutal", "temazepam", "temgesic", "tephine", "tilodol",
		"tradorec", "tramacet", "tramadol", "tramquel", "tramulief", "transtec", "vinbarbital", "zamadol", "zeridame", "zydol",
	}

	// exemptible substances are in Schedule 2, but in Schedule 5 when mixed down to little and not for injection (Schedule 2, paragraph 6;
	// Schedule 5, paragraph 2). Morphine (Schedule 5, paragraph 3) is looked at apart.
	exemptible = []string{"acetyldihydrocodeine", "codeine", "dextropropoxyphene", "difenoxin", "dihydrocodeine", "diphenoxylate", "ethylmorphine", "nicocodine", "norcodeine", "pholcodine", "propiram"}
)
